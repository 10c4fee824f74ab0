"""How one conversation is led. Plain values; knows nothing of who sets them."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["SessionConfig", "Tool"]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function that the LLM may call; ``parameters`` is a JSON schema."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """How one conversation is led.

    Attributes:
        instructions: the system prompt; None is the model's own.
        turns: who ends the user's turn: ``model`` the state head with the voice detector (semantic_vad), ``silence``
            the voice detector alone (server_vad), ``client`` nobody but ``Commit`` and ``Respond``.
        eagerness: how soon ``model`` takes the turn.
        threshold: probability at which the voice detector hears speech.
        prefix_padding_ms: audio before the detected start that belongs to the utterance.
        silence_ms: of silence that end a turn under ``silence``.
        idle_timeout_ms: silence after a reply that makes the assistant speak up; None never.
        create_response: whether the end of a turn starts a reply.
        interrupt_response: whether the user's speech stops a reply.
        playback_hold: whether the client pauses what plays when it is told to (``PlaybackHeld``, ``PlaybackGoesOn``).
        output: ``audio`` with its transcript, or ``text`` alone.
        temperature: of the text; None is the model's own.
        max_output_tokens: of one reply's text; None is the model's own.
        tools: functions the LLM may call.
        tool_choice: ``auto``, ``none``, ``required`` or a tool's name.
        transcribe: whether ``Transcribed`` events are wanted.
        seed: of every random draw.
    """

    instructions: str | None = None
    turns: Literal["model", "silence", "client"] = "model"
    eagerness: Literal["low", "auto", "medium", "high"] = "auto"
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_ms: int = 500
    idle_timeout_ms: int | None = None
    create_response: bool = True
    interrupt_response: bool = True
    playback_hold: bool = False
    output: Literal["audio", "text"] = "audio"
    temperature: float | None = None
    max_output_tokens: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    transcribe: bool = True
    seed: int = 0

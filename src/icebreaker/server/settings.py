"""What a client may set with ``session.update``, merged step by step. Knows nothing of sockets or events.

Names that this server has no use for (voices, tracing, noise reduction ...) are accepted, since clients send them
unasked; the effective configuration that goes back says what really holds.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from icebreaker.engine.messages import SessionConfig, Tool
from icebreaker.errors import ProtocolError
from icebreaker.server.fields import JSON, Fields, shown
from icebreaker.server.sound import Format

__all__ = ["Settings", "TurnDetection", "output_of", "tool_choice_of", "tools_of"]

MAX_TOKENS = 4096  # the protocol's own limit
LONGEST_INSTRUCTIONS = 100_000  # characters
LONGEST_NAME = 64  # of a tool
EAGERNESS = ("low", "medium", "high", "auto")
BETA_FIELDS = {
    "modalities": "output_modalities",
    "input_audio_format": "audio.input.format",
    "output_audio_format": "audio.output.format",
    "input_audio_transcription": "audio.input.transcription",
    "input_audio_noise_reduction": "audio.input.noise_reduction",
    "turn_detection": "audio.input.turn_detection",
    "max_response_output_tokens": "max_output_tokens",
    "voice": "audio.output.voice",
    "speed": "audio.output.speed",
}


@dataclass(frozen=True, kw_only=True)
class TurnDetection:
    """Who ends the user's turn, and how; fields as in the protocol."""

    type: Literal["semantic_vad", "server_vad"] = "semantic_vad"
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    idle_timeout_ms: int | None = None
    create_response: bool = True
    interrupt_response: bool = True

    def updated(self, fields: Fields) -> "TurnDetection":
        """With what ``fields`` say; another ``type`` starts from its defaults.

        Raises:
            ProtocolError: a field is wrong.
        """
        kind = fields.choice("type", ("semantic_vad", "server_vad")) or self.type
        base = self if kind == self.type else TurnDetection()
        new = {
            "type": kind,
            "eagerness": fields.choice("eagerness", EAGERNESS),
            "threshold": fields.number("threshold", 0, 1),
            "prefix_padding_ms": fields.integer("prefix_padding_ms", 0, 5000),
            "silence_duration_ms": fields.integer("silence_duration_ms", 0, 30_000),
            "idle_timeout_ms": fields.integer("idle_timeout_ms", 1000, 600_000),
            "create_response": fields.flag("create_response"),
            "interrupt_response": fields.flag("interrupt_response"),
        }
        changed: Any = {name: value for name, value in new.items() if value is not None}
        if fields.is_null("idle_timeout_ms"):
            changed["idle_timeout_ms"] = None
        return replace(base, **changed)

    def rendered(self) -> JSON:
        """The effective ``turn_detection``."""
        takes_turns = {"create_response": self.create_response, "interrupt_response": self.interrupt_response}
        if self.type == "semantic_vad":
            return {"type": self.type, "eagerness": self.eagerness, **takes_turns}
        return {
            "type": self.type,
            "threshold": self.threshold,
            "prefix_padding_ms": self.prefix_padding_ms,
            "silence_duration_ms": self.silence_duration_ms,
            "idle_timeout_ms": self.idle_timeout_ms,
            **takes_turns,
        }


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The effective configuration of one session; the defaults are the server's.

    ``max_output_tokens`` None is ``"inf"``; ``turn_detection`` None leaves turns to the client; ``transcription`` None
    asks for no input transcripts. ``playback_hold`` is no part of the protocol: who sets it is sent two events more.
    """

    instructions: str | None = None
    output: Literal["audio", "text"] = "audio"
    input_format: Format = field(default_factory=Format)
    output_format: Format = field(default_factory=Format)
    turn_detection: TurnDetection | None = field(default_factory=TurnDetection)
    transcription: JSON | None = field(default_factory=lambda: {"model": "icebreaker", "language": None})
    voice: str = "default"
    max_output_tokens: int | None = None
    temperature: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    tracing: Any = None
    playback_hold: bool = False

    def updated(self, fields: Fields) -> "Settings":
        """With what the ``session`` of a ``session.update`` says; ``null`` brings a default back, or turns off.

        Raises:
            ProtocolError: a field is wrong; nothing of the update holds then.
        """
        fields.choice("type", ("realtime",))
        for name, new in BETA_FIELDS.items():
            if name in fields:
                raise ProtocolError(
                    f"{fields.at(name)}: a name of the beta protocol; use session.{new}",
                    "unknown_parameter", fields.at(name),
                )  # fmt: skip
        changed = _top(fields)
        audio = fields.object("audio")
        if audio is not None:
            changed |= self._heard(audio.object("input")) | _spoken(audio.object("output"))
        return replace(self, **changed)

    def _heard(self, fields: Fields | None) -> dict[str, Any]:
        if fields is None:
            return {}
        changed: dict[str, Any] = {}
        if (format := fields.object("format")) is not None:
            changed["input_format"] = Format.read(format)
        if (reduction := fields.object("noise_reduction")) is not None:
            reduction.choice("type", ("near_field", "far_field"))
        if fields.is_null("turn_detection"):
            changed["turn_detection"] = None
        elif (detection := fields.object("turn_detection")) is not None:
            changed["turn_detection"] = (self.turn_detection or TurnDetection()).updated(detection)
        if fields.is_null("transcription"):
            changed["transcription"] = None
        elif (transcription := fields.object("transcription")) is not None:
            asked = {name: transcription.text(name, longest=1000) for name in ("model", "language")}
            changed["transcription"] = {**asked, "model": asked["model"] or "icebreaker"}
        return changed

    def config(self) -> SessionConfig:
        """The same, in the engine's words."""
        turns = self.turn_detection or TurnDetection(create_response=False, interrupt_response=False)
        who: Any = {"semantic_vad": "model", "server_vad": "silence"}
        return SessionConfig(
            instructions=self.instructions,
            turns=who[turns.type] if self.turn_detection else "client",
            eagerness=turns.eagerness,
            threshold=turns.threshold,
            prefix_padding_ms=turns.prefix_padding_ms,
            silence_ms=turns.silence_duration_ms,
            idle_timeout_ms=turns.idle_timeout_ms,
            create_response=turns.create_response,
            interrupt_response=turns.interrupt_response,
            playback_hold=self.playback_hold,
            output=self.output,
            temperature=self.temperature,
            max_output_tokens=self.max_output_tokens,
            tools=self.tools,
            tool_choice=self.tool_choice,
            transcribe=self.transcription is not None,
        )

    def rendered(self, *, session_id: str, model: str, expires_at: int) -> JSON:
        """The ``session`` object of ``session.created`` and ``session.updated``; what is ours only for who asked."""
        ours = {"icebreaker": {"playback_hold": True}} if self.playback_hold else {}
        return {
            "type": "realtime",
            "object": "realtime.session",
            "id": session_id,
            "model": model,
            "output_modalities": [self.output],
            "instructions": self.instructions or "",
            "audio": {
                "input": {
                    "format": self.input_format.rendered(),
                    "transcription": self.transcription,
                    "noise_reduction": None,
                    "turn_detection": self.turn_detection.rendered() if self.turn_detection else None,
                },
                "output": {"format": self.output_format.rendered(), "voice": self.voice, "speed": 1.0},
            },
            "tools": [rendered_tool(tool) for tool in self.tools],
            "tool_choice": rendered_choice(self.tool_choice),
            "max_output_tokens": "inf" if self.max_output_tokens is None else self.max_output_tokens,
            "tracing": self.tracing,
            "truncation": "auto",
            "prompt": None,
            "include": None,
            "expires_at": expires_at,
            **ours,
        }


def _top(fields: Fields) -> dict[str, Any]:
    """What is set outside ``audio``."""
    changed: dict[str, Any] = {}
    if "instructions" in fields:
        changed["instructions"] = fields.text("instructions", longest=LONGEST_INSTRUCTIONS)
    if (output := output_of(fields)) is not None:
        changed["output"] = output
    if "max_output_tokens" in fields:
        changed["max_output_tokens"] = max_tokens_of(fields)
    if "temperature" in fields:
        changed["temperature"] = fields.number("temperature", 0, 2)
    if "tools" in fields:
        changed["tools"] = tools_of(fields) or ()
    if "tool_choice" in fields:
        changed["tool_choice"] = tool_choice_of(fields) or "auto"
    if "tracing" in fields:
        tracing = fields.raw("tracing")
        if tracing is not None and tracing != "auto":
            Fields(tracing, fields.at("tracing"))
        changed["tracing"] = tracing
    if (ours := fields.object("icebreaker")) is not None and (holds := ours.flag("playback_hold")) is not None:
        changed["playback_hold"] = holds
    fields.text("model")
    return changed


def _spoken(fields: Fields | None) -> dict[str, Any]:
    if fields is None:
        return {}
    changed: dict[str, Any] = {}
    if (format := fields.object("format")) is not None:
        changed["output_format"] = Format.read(format)
    voice = fields.raw("voice")
    if isinstance(voice, dict):  # a custom voice: {"id": ...}
        voice = Fields(voice, fields.at("voice")).required_id("id")
    elif voice is not None:
        voice = fields.text("voice", longest=200)
    if voice is not None:
        changed["voice"] = voice
    fields.number("speed", 0.25, 1.5)
    return changed


def output_of(fields: Fields) -> Literal["audio", "text"] | None:
    """``output_modalities``: audio with its transcript, or text alone.

    Raises:
        ProtocolError: neither.
    """
    asked = fields.array("output_modalities")
    if asked is None:
        return None
    if not asked or any(each not in ("audio", "text") for each in asked):
        raise fields.wrong("output_modalities", '["audio"] or ["text"]', ", ".join(map(shown, asked)) or "nothing")
    return "audio" if "audio" in asked else "text"


def max_tokens_of(fields: Fields) -> int | None:
    """``max_output_tokens``; None is ``"inf"``."""
    if fields.raw("max_output_tokens") == "inf":
        return None
    if isinstance(fields.raw("max_output_tokens"), str):
        raise fields.wrong("max_output_tokens", f'"inf" or 1 to {MAX_TOKENS}', shown(fields.raw("max_output_tokens")))
    return fields.integer("max_output_tokens", 1, MAX_TOKENS)


def tools_of(fields: Fields) -> tuple[Tool, ...] | None:
    """``tools``: functions only.

    Raises:
        ProtocolError: a tool that is none, or that is no function.
    """
    asked = fields.objects("tools")
    if asked is None:
        return None
    tools = []
    for each in asked:
        each.choice("type", ("function",))
        parameters = each.object("parameters")
        tools.append(
            Tool(
                name=each.required_text("name", longest=LONGEST_NAME),
                description=each.text("description") or "",
                parameters={} if parameters is None else parameters.value,
            )
        )
    return tuple(tools)


def tool_choice_of(fields: Fields) -> str | None:
    """``tool_choice``: auto, none, required, or the name of a function."""
    choice = fields.raw("tool_choice")
    if isinstance(choice, dict):
        named = Fields(choice, fields.at("tool_choice"))
        named.choice("type", ("function",))
        return named.required_text("name", longest=LONGEST_NAME)
    return fields.choice("tool_choice", ("auto", "none", "required"))


def rendered_tool(tool: Tool) -> JSON:
    """A tool as the protocol has it."""
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}


def rendered_choice(choice: str) -> Any:
    """A tool choice as the protocol has it."""
    return choice if choice in ("auto", "none", "required") else {"type": "function", "name": choice}

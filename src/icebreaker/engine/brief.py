"""What the device is asked for a reply: what it follows, how its words are drawn, how long it may be. Runs no model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from icebreaker.dialogue.state import Manner
from icebreaker.engine.functions import declared, forced_start
from icebreaker.engine.messages import Respond, SessionConfig
from icebreaker.engine.reply import Speech
from icebreaker.engine.shared import Shared

__all__ = ["LEAST_TOKENS", "Brief"]

LEAST_TOKENS = 16  # a reply that has no room for more is not begun


class Brief:
    """Reads a conversation as its settings and a command want it read."""

    def __init__(self, live: Shared) -> None:
        self.live = live

    def config(self, command: Respond) -> SessionConfig:
        """The session's settings, with what a command says instead."""
        config = self.live.config
        return replace(
            config,
            instructions=config.instructions if command.instructions is None else command.instructions,
            output=command.output or config.output,
            max_output_tokens=command.max_output_tokens or config.max_output_tokens,
            tools=config.tools if command.tools is None else command.tools,
            tool_choice=command.tool_choice or config.tool_choice,
        )

    def forced(self, config: SessionConfig) -> str:
        """What the LLM is made to begin with, where it has to call a function."""
        template = str(getattr(self.live.device.llm.tokenizer, "chat_template", "") or "")
        return forced_start(config.tool_choice, template) if config.tools else ""

    def reading(
        self, config: SessionConfig, *, room: int, opening: bool = False, nudge: bool = False, forget: bool = True
    ) -> list[int]:
        """Keys of the conversation as ``config`` has it read; see ``Memory.reading``."""
        system = self.live.settings.system if config.instructions is None else config.instructions
        tools: Sequence[dict[str, Any]] = declared(config.tools) if config.tool_choice != "none" else ()
        return self.live.memory.reading(system, tools, room=room, opening=opening, nudge=nudge, forget=forget)

    def keys(self, speech: Speech, room: int, *, forget: bool = True) -> list[int]:
        """Keys of all that a reply follows."""
        keys = self.reading(speech.config, room=room, nudge=speech.nudge, forget=forget)
        forced = self.live.device.llm.tokenizer.encode(speech.forced, add_special_tokens=False) if speech.forced else []
        return [*keys, *forced]

    def tokens(self, config: SessionConfig) -> tuple[int, int]:
        """How many tokens a reply may have, and for how many of them there has to be room."""
        wanted = config.max_output_tokens or self.live.settings.max_text_tokens
        return wanted, min(wanted, max(LEAST_TOKENS, self.live.memory.capacity // 3))

    def manner(self, speech: Speech) -> Manner:
        """How a reply is drawn."""
        text, config = self.live.settings.text, speech.config
        if config.temperature is not None:
            top_k = 0 if text.top_k == 1 and config.temperature > 0 else text.top_k
            text = replace(text, temperature=config.temperature, top_k=top_k)
        return Manner(text, speech.max_tokens, speech.for_ear, config.output == "audio")

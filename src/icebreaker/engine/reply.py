"""One reply on its way out: what was asked, what was made, and when. Knows no device; times come in seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from torch import Tensor

from icebreaker.dialogue.state import Reply as DeviceReply
from icebreaker.engine.functions import Called, aloud
from icebreaker.engine.messages import AudioDelta, Item, Respond, SessionConfig, SessionEvent, TextDelta
from icebreaker.text.heard import SpokenSegment

__all__ = ["Speech", "Status"]

Status = Literal["completed", "cancelled", "failed", "incomplete"]


@dataclass
class Speech:
    """A reply. First the device makes it, then the rest of its sound is sent, then it is done.

    Attributes:
        command: what was asked.
        config: the session's, with what the command says instead.
        response_id, item_id: its names.
        decided_s: when the turn was taken.
        sample_rate: of its sound, in Hz.
        speech_end_s: when the user stopped to speak, as far as known.
        nudge: an idle time-out asked for it.
        forced: text that the LLM was made to begin with.
        begun: the device works on it, or has.
        announced: its message stands in the conversation.
        made: what the device left of it, once it works on it no more.
        making: the device may still have to work on it.
        spans, calls: where its segments lie in the sound, and the functions it calls.
        status, reason: how it ends, once that is known.
        items: what it leaves in the conversation.
        done: nothing more comes of it; it may still be playing.
        text: told so far.
        samples: of sound made.
        input_tokens: LLM positions before it.
        max_tokens: it may have.
        latency_ms: from ``decided_s`` to each part.
    """

    command: Respond
    config: SessionConfig
    response_id: str
    item_id: str
    decided_s: float
    sample_rate: int
    speech_end_s: float | None = None
    nudge: bool = False
    forced: str = ""
    begun: bool = False
    announced: bool = False
    made: DeviceReply | None = None
    making: bool = True
    spans: tuple[SpokenSegment, ...] = ()
    calls: list[Called] = field(default_factory=list)
    status: Status = "completed"
    reason: str = ""
    items: list[Item] = field(default_factory=list)
    done: bool = False
    text: str = ""
    samples: int = 0
    input_tokens: int = 0
    max_tokens: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)

    @property
    def for_ear(self) -> Callable[[str], str] | None:
        """What of the text may be said; None: all."""
        if self.forced:
            return _nothing
        return aloud if self.config.tools and self.config.tool_choice != "none" else None

    def write(self, text: str, now_s: float, *, last: bool = False) -> list[SessionEvent]:
        """The text has grown to ``text``; what of it is new and may be said."""
        said = self.for_ear(text) if self.for_ear else text
        said = said.lstrip() if last else said.lstrip().rstrip("\ufffd")
        new = said[len(self.text) :]
        if not new:
            return []
        self._mark("first text", now_s)
        self.text = said
        return [TextDelta(response_id=self.response_id, item_id=self.item_id, text=new)]

    def sound(self, waveform: Tensor, now_s: float) -> AudioDelta:
        """New sound [S]."""
        samples = waveform.numpy().astype(np.float32)
        start_ms = 1000 * self.samples / self.sample_rate
        self._mark("first sound", now_s)
        self.samples += len(samples)
        return AudioDelta(response_id=self.response_id, item_id=self.item_id, waveform=samples, start_ms=start_ms)

    def _mark(self, name: str, now_s: float) -> None:
        if name not in self.latency_ms:
            self.latency_ms[name] = 1000 * (now_s - self.decided_s)
            if name == "first sound" and self.speech_end_s is not None:
                self.latency_ms["end of speech to first sound"] = 1000 * (now_s - self.speech_end_s)


def _nothing(text: str) -> str:
    return ""

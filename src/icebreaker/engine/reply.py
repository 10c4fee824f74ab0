"""One reply on its way out: what was asked, what was sent, and when. Knows no device; times come in seconds."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import soxr
from torch import Tensor

from icebreaker.engine.functions import aloud
from icebreaker.engine.hearing import SAMPLE_RATE
from icebreaker.engine.messages import AudioDelta, Respond, SessionConfig, SessionEvent, TextDelta, Waveform
from icebreaker.engine.playback import Playback

__all__ = ["Speech"]

JITTER_S = 0.1  # that clients wait with the first sound, in case the second is late


@dataclass
class Speech:
    """A reply.

    Attributes:
        command: what was asked.
        config: the session's, with what the command says instead.
        response_id, item_id: its names.
        decided_s: when the turn was taken.
        speech_end_s: when the user stopped to speak, as far as known.
        nudge: an idle time-out asked for it.
        forced: text that the LLM was made to begin with.
        begun: the device works on it.
        announced: its message stands in the conversation.
        done: nothing more comes; it may still be playing.
        text: sent so far.
        samples: of sound sent.
        playback: of that sound.
        input_tokens: LLM positions before it.
        max_tokens: it may have.
        latency_ms: from ``decided_s`` to each part.
    """

    command: Respond
    config: SessionConfig
    response_id: str
    item_id: str
    decided_s: float
    playback: Playback
    sample_rate: int
    speech_end_s: float | None = None
    nudge: bool = False
    forced: str = ""
    begun: bool = False
    announced: bool = False
    done: bool = False
    text: str = ""
    samples: int = 0
    input_tokens: int = 0
    max_tokens: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._resampler = soxr.ResampleStream(self.sample_rate, SAMPLE_RATE, 1, dtype="float32")

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

    def sound(self, waveform: Tensor, now_s: float) -> tuple[SessionEvent, Waveform]:
        """New sound [S]: the event, and the same at 16 kHz."""
        samples = waveform.numpy().astype(np.float32)
        start_ms = 1000 * self.samples / self.sample_rate
        self._mark("first sound", now_s)
        if not self.samples:
            self.playback = replace(self.playback, at_s=max(self.playback.at_s, now_s + JITTER_S))
        self.samples += len(samples)
        self.playback = self.playback.send(1000 * len(samples) / self.sample_rate, now_s)
        event = AudioDelta(
            response_id=self.response_id, item_id=self.item_id, waveform=samples, start_ms=start_ms
        )  # fmt: skip
        return event, self._resampler.resample_chunk(samples)

    def played_samples(self, now_s: float) -> int:
        """Of its sound, what can have been heard by now."""
        return round(self.playback.at(now_s).played_ms * self.sample_rate / 1000)

    def lead_s(self, now_s: float) -> float:
        """Seconds of sound that wait, for a listener who plays the first at once; never less than none."""
        playback = self.playback.at(now_s)
        return max(0.0, playback.lead_ms / 1000 - JITTER_S)

    def audible(self, now_s: float) -> bool:
        """Whether it is made, or still being played."""
        return not self.done or self.playback.at(now_s).lead_ms > 0

    def _mark(self, name: str, now_s: float) -> None:
        if name not in self.latency_ms:
            self.latency_ms[name] = 1000 * (now_s - self.decided_s)
            if name == "first sound" and self.speech_end_s is not None:
                self.latency_ms["end of speech to first sound"] = 1000 * (now_s - self.speech_end_s)


def _nothing(text: str) -> str:
    return ""

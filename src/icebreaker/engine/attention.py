"""Whether the user speaks, and how much of it is meant: voice detector, echo and patience. Knows no models, no slots.

Positions are samples of the session's input at 16 kHz.
"""

from dataclasses import replace

import numpy as np

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.audio.vad import WINDOW_SAMPLES
from icebreaker.engine.hearing import SAMPLE_RATE, Ear, Patience, patience
from icebreaker.engine.loudness import Loudness
from icebreaker.engine.messages import Waveform
from icebreaker.engine.shared import Shared
from icebreaker.engine.utterance import Heard

__all__ = ["Attention"]

UNCERTAIN_MS = 900.0  # of speech that interrupt while it is not known yet where the echo lies
STICKING_OUT_MS = 160.0  # of speech that a known echo does not explain, before anybody holds his breath for it
SILENT_ENERGY = WINDOW_SAMPLES * 2e-4**2  # of a window, below which nobody asks the voice detector


class Attention:
    """Follows a microphone, window by window."""

    def __init__(self, live: Shared) -> None:
        self.live = live
        self.buffer, self.echo = live.buffer, live.echo
        self.ear, self.loudness = Ear(), Loudness()
        self.window_at = 0  # position of the next window for the voice detector
        self.mistook = False  # it waited for its own echo, of which it does not know enough yet

    @property
    def patience(self) -> Patience:
        """How long to wait."""
        return patience(self.live.config, self.live.duplex.take_threshold)

    def window(self, heard: Heard | None) -> Waveform | None:
        """The next window [512] for the voice detector, if it is due while ``heard`` is listened to."""
        if self.live.config.turns == "client" or self.window_at + WINDOW_SAMPLES > self.buffer.stop:
            return None
        if heard is not None and heard.end is not None:
            return None
        if heard is not None and self.window_at >= heard.fed + CHUNK_SAMPLES + WINDOW_SAMPLES:
            return None  # the verdict on what was heard comes first
        return self.buffer.take(self.window_at, self.window_at + WINDOW_SAMPLES)

    def is_loud(self, window: Waveform) -> bool:
        """Whether there is anything in it to ask about."""
        return bool(self.ear.run) or self.ear.speaking or float(np.dot(window, window)) >= SILENT_ENERGY

    def hear(self, window: Waveform, probability: float, *, confirmed: bool) -> None:
        """The voice detector's probability for the window that was due; ``confirmed``: what is said is known meant."""
        position = self.window_at
        self.window_at += WINDOW_SAMPLES
        if self.echo.may_echo(position):
            known = self.echo.certain, self.echo.delay_ms
            probability = 0.0 if self.echo.explains(window, position) else probability
            if self.echo.certain and (self.echo.certain, self.echo.delay_ms) != known and not confirmed:
                self.ear = replace(self.ear, voiced_ms=0.0)  # it counted what may have been echo
                self.loudness.forget()
        self.ear = self.ear.heard(probability, self.live.config.threshold, position)
        if self.ear.voiced_ms == 0:
            self.loudness.forget()
        elif self.ear.quiet_ms == 0:
            self.loudness.hear(window)

    def forget(self) -> None:
        """Nobody speaks: old sound is of no use."""
        self.buffer.forget(self.window_at - self.live.config.prefix_padding_ms * SAMPLE_RATE // 1000 - SAMPLE_RATE)

    @property
    def may_be_echo(self) -> bool:
        """Whether all that was heard may be the assistant's own voice, as far as anybody knows."""
        rings, certain = self.echo.may_ring(self.window_at), self.echo.certain
        return rings and not certain and not self.echo.excludes(self.ear.voiced_ms)

    def needed_ms(self, *, audible: bool) -> float:
        """How much speech is meant, where the assistant can be heard or not; more while it may be its own."""
        if self.may_be_echo:
            return max(self.patience.confirm_ms, UNCERTAIN_MS)
        rings = self.echo.certain and self.echo.may_ring(self.window_at)
        return self.patience.confirm_ms if audible or rings else 0.0

    @property
    def is_the_user(self) -> bool:
        """Whether what was heard is so surely not the assistant's own voice that it had better wait.

        Stricter than what interrupts in the end: to wait for one's own echo would be to stutter. While nothing is known
        of the echo, once is forgiven.
        """
        if not self.echo.may_echo(self.window_at):
            return True
        if self.echo.delay_ms is None:
            return self.echo.certain or (not self.mistook and self.echo.doubts(self.ear.voiced_ms))
        return self.ear.voiced_ms >= STICKING_OUT_MS

    def rest(self) -> None:
        """Whoever spoke was listened to to the end."""
        self.ear = Ear()
        self.loudness.forget()

    def was_nobody(self) -> None:
        """It waited in vain."""
        self.mistook = self.mistook or not self.echo.certain

    @property
    def quiet_since(self) -> int:
        """Position where the last voiced window ended."""
        return self.window_at - round(self.ear.quiet_ms * SAMPLE_RATE / 1000)

"""What the listener's loudspeaker plays, for whoever looks for it in the microphone. Knows no replies and no clock."""

import numpy as np
import soxr

from icebreaker.engine.commands import Waveform
from icebreaker.engine.echo import EchoDetector
from icebreaker.engine.hearing import SAMPLE_RATE
from icebreaker.engine.valve import GoneOn, Passed, Paused, Valve

__all__ = ["Loudspeaker"]


class Loudspeaker:
    """Hands on to ``echo`` all sound that passes ``valve``, with the silences in between, at 16 kHz."""

    def __init__(self, valve: Valve, echo: EchoDetector) -> None:
        self._valve, self._echo = valve, echo
        self._resampler = self._new_resampler()
        self._kept = _silence(0)  # what its listener has and will hear after a pause

    def follow(self, position: int) -> int:
        """Take note of what passed since the last call, while the microphone is at ``position``.

        Returns:
            how many times the listener had run dry.
        """
        dry = 0
        for passed in self._valve.take_passed():
            match passed:
                case Paused(kept_s=kept_s):
                    self._kept = self._echo.take_back(round(kept_s * SAMPLE_RATE))
                case GoneOn(after_s=after_s):
                    self._echo.play(np.concatenate([_silence(after_s), self._kept]))
                    self._kept = _silence(0)
                case Passed():
                    self._play(passed, position)
                    dry += passed.dry
        return dry

    def _play(self, passed: Passed, position: int) -> None:
        if passed.first:
            self._echo.begin(position)
            self._resampler = self._new_resampler()
        if passed.gap_s > 0:
            self._echo.play(_silence(passed.gap_s))
        self._echo.play(self._resampler.resample_chunk(passed.waveform))

    def stop(self, position: int) -> None:
        """It plays no more of what it was sent."""
        self.follow(position)
        self._kept = _silence(0)
        self._echo.stop(position)

    def _new_resampler(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(self._valve.sample_rate, SAMPLE_RATE, 1, dtype="float32")


def _silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)

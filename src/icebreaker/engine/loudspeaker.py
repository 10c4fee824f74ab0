"""What the listener's loudspeaker plays, for whoever looks for it in the microphone. Knows no replies and no clock."""

import numpy as np
import soxr

from icebreaker.engine.echo import EchoDetector
from icebreaker.engine.hearing import SAMPLE_RATE
from icebreaker.engine.valve import Valve

__all__ = ["Loudspeaker"]


class Loudspeaker:
    """Hands on to ``echo`` all sound that passes ``valve``, with the silences in between, at 16 kHz."""

    def __init__(self, valve: Valve, echo: EchoDetector) -> None:
        self._valve, self._echo = valve, echo
        self._resampler = self._new_resampler()

    def follow(self, position: int) -> int:
        """Take note of what passed since the last call, while the microphone is at ``position``.

        Returns:
            how many times the listener had run dry.
        """
        dry = 0
        for passed in self._valve.take_passed():
            if passed.first:
                self._echo.begin(position)
                self._resampler = self._new_resampler()
            if passed.gap_s > 0:
                self._echo.play(np.zeros(round(passed.gap_s * SAMPLE_RATE), np.float32))
            self._echo.play(self._resampler.resample_chunk(passed.waveform))
            dry += passed.dry
        return dry

    def stop(self, position: int) -> None:
        """It plays no more of what it was sent."""
        self.follow(position)
        self._echo.stop(position)

    def _new_resampler(self) -> soxr.ResampleStream:
        return soxr.ResampleStream(self._valve.sample_rate, SAMPLE_RATE, 1, dtype="float32")

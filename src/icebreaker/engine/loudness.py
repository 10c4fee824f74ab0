"""Who speaks over the assistant from afar: people at the back are fainter than the user has been. Knows no echo."""

import numpy as np

from icebreaker.engine.messages import Waveform

__all__ = ["Loudness"]

FAINT_DB = 8.0  # below the user's turns; who interrupts speaks rather louder than before (Lombard)


class Loudness:
    """The level of what is being said, in voiced windows, and of the user's turns so far."""

    def __init__(self) -> None:
        self.usual_db: float | None = None  # of the user's turns; the newest weighs half
        self._power, self._windows = 0.0, 0

    def hear(self, window: Waveform) -> None:
        """A voiced window of what is being said."""
        self._power += float(np.dot(window, window)) / len(window)
        self._windows += 1

    def forget(self) -> None:
        """What was said is over."""
        self._power, self._windows = 0.0, 0

    def was_the_user(self) -> None:
        """What was said was a turn."""
        if self._power > 0:
            self.usual_db = self._level_db if self.usual_db is None else (self.usual_db + self._level_db) / 2

    @property
    def is_faint(self) -> bool:
        """Whether it is so much fainter than the user that it is somebody else; False while the user is not known."""
        return self.usual_db is not None and self._power > 0 and self._level_db < self.usual_db - FAINT_DB

    @property
    def _level_db(self) -> float:
        return float(10 * np.log10(self._power / self._windows))

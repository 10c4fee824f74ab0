"""Whether somebody speaks, by the level of the sound alone. Knows nothing of answers; positions come in milliseconds.

Speech over an answer is tentative until there was enough of it, as in the real engine; too little was a backchannel.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from icebreaker.engine.messages import Waveform

__all__ = ["SAMPLE_RATE", "WINDOW_SAMPLES", "ScriptedEar", "Sign"]

SAMPLE_RATE = 16000  # of what is heard
WINDOW_SAMPLES = SAMPLE_RATE // 50  # 20 ms
WINDOW_MS = 1000 * WINDOW_SAMPLES / SAMPLE_RATE
LOUD = 0.01  # level (root mean square) that counts as speech
DROP_MS = 320.0  # of silence that make a tentative utterance nothing


class Sign(Enum):
    """What a window changes."""

    NOTHING = "nothing"
    OPENED = "opened"  # somebody may be speaking
    MEANT = "meant"  # and means it
    DROPPED = "dropped"  # it was nothing
    ENDED = "ended"


@dataclass
class ScriptedEar:
    """One utterance after the other.

    Attributes:
        confirm_ms: of speech over an answer that are meant.
        started_ms: where the utterance began; None: nobody speaks.
        meant: it is one.
        voiced_ms, quiet_ms: of it, and of the silence after it.
    """

    confirm_ms: float = 0.0
    started_ms: float | None = None
    meant: bool = False
    voiced_ms: float = 0.0
    quiet_ms: float = 0.0

    def hear(self, window: Waveform, at_ms: float, silence_ms: float, *, answering: bool) -> list[Sign]:
        """A window that ends at ``at_ms``; ``silence_ms`` end a turn."""
        loud = float(np.sqrt(np.mean(window**2))) >= LOUD
        if self.started_ms is None:
            if not loud:
                return []
            self.started_ms, self.meant, self.voiced_ms, self.quiet_ms = at_ms - WINDOW_MS, False, WINDOW_MS, 0.0
            return [Sign.OPENED, *self._weigh(answering)]
        self.voiced_ms += WINDOW_MS if loud else 0.0
        self.quiet_ms = 0.0 if loud else self.quiet_ms + WINDOW_MS
        if not self.meant:
            return self._weigh(answering)
        return [Sign.ENDED] if self.quiet_ms >= silence_ms else []

    def forget(self) -> None:
        """Nobody speaks."""
        self.started_ms = None

    def _weigh(self, answering: bool) -> list[Sign]:
        """Whether what was tentative is meant, or nothing."""
        if not answering or self.voiced_ms >= self.confirm_ms:
            self.meant = True
            return [Sign.MEANT]
        if self.quiet_ms < DROP_MS:
            return []
        self.forget()
        return [Sign.DROPPED]

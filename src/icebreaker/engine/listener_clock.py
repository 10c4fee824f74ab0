"""A listener's own time: it stands still while he pauses his playback. Reads no clock: times are passed in, in seconds.

What is said of playback in this time needs no word about pauses: time held is not time played.
"""

__all__ = ["ListenerClock"]


class ListenerClock:
    """Runs until it is stopped, and goes on where it stood."""

    def __init__(self) -> None:
        self._stood_s = 0.0  # in all, before now
        self._stands_s: float | None = None  # since when

    @property
    def stands(self) -> bool:
        """Whether the listener pauses."""
        return self._stands_s is not None

    def at(self, now_s: float) -> float:
        """What it shows."""
        return (now_s if self._stands_s is None else min(now_s, self._stands_s)) - self._stood_s

    def stop(self, now_s: float) -> None:
        """The listener pauses."""
        self._stands_s = now_s

    def go_on(self, now_s: float) -> float:
        """He plays on; returns for how many seconds he did not."""
        stood_s = 0.0 if self._stands_s is None else max(0.0, now_s - self._stands_s)
        self._stands_s, self._stood_s = None, self._stood_s + stood_s
        return stood_s

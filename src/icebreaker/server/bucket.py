"""A token bucket. Reads no clock: times are passed in, in seconds."""

__all__ = ["Bucket"]


class Bucket:
    """``burst`` at once, then ``rate`` a second. What is taken beyond is a debt that has to be waited for."""

    def __init__(self, rate: float, burst: float, now_s: float = 0.0) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at_s = burst, now_s

    def left(self, now_s: float) -> float:
        """What can be taken now; negative while in debt."""
        return min(self.burst, self._tokens + self.rate * (now_s - self._at_s))

    def take(self, amount: float, now_s: float) -> float:
        """Take it; returns how many seconds to wait before anything else, 0 if none."""
        self._tokens, self._at_s = self.left(now_s) - amount, now_s
        return max(0.0, -self._tokens / self.rate)

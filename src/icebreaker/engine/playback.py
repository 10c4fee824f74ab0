"""How much of a reply its listener can have heard by now. Reads no clock: times are passed in, in seconds."""

from dataclasses import dataclass, replace

__all__ = ["Playback"]


@dataclass(frozen=True)
class Playback:
    """A loudspeaker that plays what it is sent, at once and without a gap while there is anything to play.

    Attributes:
        sent_ms: of sound sent.
        played_ms: of it played by ``at_s``.
        at_s: when that was; in the future: it is still busy with something else until then.
        underruns: times that it ran dry before the end.
    """

    sent_ms: float = 0.0
    played_ms: float = 0.0
    at_s: float = 0.0
    underruns: int = 0

    def at(self, now_s: float) -> "Playback":
        """The same loudspeaker, later."""
        played = min(self.sent_ms, self.played_ms + 1000 * max(0.0, now_s - self.at_s))
        return replace(self, played_ms=played, at_s=max(self.at_s, now_s))

    def send(self, ms: float, now_s: float) -> "Playback":
        """``ms`` more of sound arrive."""
        now = self.at(now_s)
        dry = self.sent_ms > 0 and now.played_ms >= self.sent_ms
        return replace(now, sent_ms=self.sent_ms + ms, underruns=self.underruns + int(dry))

    @property
    def lead_ms(self) -> float:
        """Sound that waits to be played."""
        return self.sent_ms - self.played_ms

"""Who is given how much sound next, and how long the others may think meanwhile. Knows no device; reads no clock.

Every listener plays what was sent, so each reply has a lead: seconds of sound that wait to be played. Nobody's lead may
be shorter than a tick can take, or its listener runs dry, and nobody's is made longer than ``ahead_s``. While a reply
has no sound yet or is about to run dry, those who have enough wait; and so do they when there are so many that making
sound for all of them would hold up whoever speaks to the assistant.
"""

from collections.abc import Mapping

__all__ = ["GUESSED", "NEVER_HEARD", "URGENT_S", "Pacing"]

NEVER_HEARD = -1.0  # the lead of a reply that has no sound yet
GUESSED = -2.0  # and of one that may never be given: it is made while nobody is urgent
FIRST_S = 0.2  # of sound that a reply begins with at least
CROWD_S = 0.05  # and for everybody else who speaks or is spoken to: the next tick may be theirs
PIECE_S = 0.4  # of sound that a reply is given in one tick: the codec's steps cost little more for twice as much
MOST_S = 0.6  # of sound that it is given in one tick at most, however slow the ticks
DRY_S = 0.15  # of lead, up to which a reply is rendered before others in any case
URGENT_S = 0.6  # of lead, below which a reply is urgent
ENOUGH_S = 1.5  # of lead, above which a reply waits while others are urgent
SOUND_TICK_S = 0.1  # of a tick, about, are spent on sound, unless listeners would run dry
LEARNING = 0.2  # share of the newest tick in what is known of the price of sound
FADING = 0.85  # of what is remembered of slow ticks, from one tick to the next
MARGIN = 1.1  # by which a tick may be slower than those before it


class Pacing:
    """Remembers how slow ticks are, and shares out sound accordingly.

    Args:
        ahead_s: of sound that is made in advance of playback.
    """

    def __init__(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s
        self.slowest_s = 0.0
        self.price = 0.0  # seconds that a second of sound takes to make

    def made(self, sound_s: float, took_s: float) -> None:
        """So much sound took so long."""
        if sound_s > 0:
            price = took_s / sound_s
            self.price = price if not self.price else (1 - LEARNING) * self.price + LEARNING * price

    def ticked(self, took_s: float) -> None:
        """A tick in which somebody was served took so long."""
        self.slowest_s = max(took_s, FADING * self.slowest_s)

    @property
    def safe_s(self) -> float:
        """Lead that lasts until the end of the next tick."""
        return MARGIN * self.slowest_s

    def share(self, leads: Mapping[int, float], others: int = 0) -> dict[int, float]:
        """Seconds of new sound for each reply that is to be given any in this tick.

        Args:
            leads: seconds that wait to be played, by reply; ``NEVER_HEARD`` before the first, ``GUESSED`` for a guess.
            others: conversations besides these in which something happens.
        """
        crowd = max(0, len(leads) + others - 1)
        given = {reply: lead for reply, lead in leads.items() if lead != GUESSED}
        urgent = min(given.values(), default=self.ahead_s) < max(URGENT_S, self.safe_s)
        limit = min(self.ahead_s, max(ENOUGH_S, 2 * self.safe_s)) if urgent else self.ahead_s
        served = given if urgent else leads
        by_need = sorted((lead == GUESSED, lead, reply) for reply, lead in served.items() if lead < limit)
        shares: dict[int, float] = {}
        for is_guess, lead, reply in by_need:
            piece = self._piece(lead, crowd)
            is_full = (sum(shares.values()) + piece) * self.price > SOUND_TICK_S
            if shares and is_full and (is_guess or lead >= max(URGENT_S, self.safe_s)):
                break  # nor does anybody else need it more
            shares[reply] = piece
        return shares

    def spare_s(self, leads: Mapping[int, float]) -> float:
        """How long a tick may take until somebody who has sound runs dry."""
        return min((lead for lead in leads.values() if lead >= 0), default=self.ahead_s)

    def in_order(self, leads: Mapping[int, float], wanted: Mapping[int, float]) -> list[list[int]]:
        """Whose sound is rendered and sent together, before whose: those who would run dry while all is made go first.

        Args:
            leads: as ``share`` has them.
            wanted: seconds of sound that are being made for each.
        """
        soon_s = max(DRY_S, self.price * sum(wanted.values()))
        first = [reply for reply, lead in leads.items() if lead <= soon_s and lead != GUESSED]
        return [first, [reply for reply in leads if reply not in first]]

    def _piece(self, lead: float, crowd: int) -> float:
        if lead < 0:
            return min(MOST_S, max(FIRST_S + CROWD_S * crowd, self.safe_s))
        return min(MOST_S, max(PIECE_S, self.safe_s - lead))

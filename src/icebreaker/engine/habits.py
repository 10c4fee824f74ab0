"""How all conversations of an engine are led. Plain values; knows nothing of a single one."""

from dataclasses import dataclass

__all__ = ["LEAD_S", "LEAN", "Habits"]

LEAD_S = 0.15  # more is heard after an interruption, less than a network's hiccups is a gap
LEAN = 0.25  # below it somebody who fell silent is likely to go on


@dataclass(frozen=True)
class Habits:
    """What an operator decides.

    Attributes:
        lead_s: of sound that is sent in advance of its playback, where speech may interrupt it.
        lean: probability of the state head from which a reply is begun before the turn is decided; None: never.
    """

    lead_s: float = LEAD_S
    lean: float | None = LEAN

"""Who took the turn, how fast, and who fell silent: figures from words with times. Knows nothing of audio or systems.

Written from the definitions of the Full-Duplex-Bench papers (arXiv:2503.04721, metrics; arXiv:2507.23159, overlap).
Times are seconds of the scene.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "SHORT_WORDS", "Span", "Word", "backchannels", "latency_s", "longest_s", "overlap_s", "runs", "stop_s",
    "takes_turn",
]  # fmt: skip

SHORT_S, SHORT_WORDS = 1.0, 3  # what spans less and has no more words takes no turn
BACKCHANNEL_S, BACKCHANNEL_WORDS = 1.0, 2
TAKEOVER_S = 3.0
RUN_GAP_S = 0.5  # of silence that ends a run of words


class Word(NamedTuple):
    """One word and when it is said."""

    text: str
    start_s: float
    end_s: float


class Span(NamedTuple):
    """From when to when."""

    start_s: float
    end_s: float


def takes_turn(words: Sequence[Word]) -> bool:
    """The turn-over rule: there are words, and they span a second or more or number more than three."""
    if not words:
        return False
    span = max(word.end_s for word in words) - min(word.start_s for word in words)
    return span >= SHORT_S or len(words) > SHORT_WORDS


def latency_s(words: Sequence[Word], turn_end_s: float) -> float | None:
    """From the user's turn end to the first word, negatives clamped to 0; None where no turn was taken."""
    if not takes_turn(words):
        return None
    return max(0.0, min(word.start_s for word in words) - turn_end_s)


def runs(words: Sequence[Word], gap_s: float = RUN_GAP_S) -> list[list[Word]]:
    """``words`` in time order, cut where nothing is said for longer than ``gap_s``."""
    found: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.start_s):
        if found and word.start_s - found[-1][-1].end_s <= gap_s:
            found[-1].append(word)
        else:
            found.append([word])
    return found


def backchannels(words: Sequence[Word]) -> int:
    """Runs under a second with at most two words."""
    return sum(run[-1].end_s - run[0].start_s < BACKCHANNEL_S and len(run) <= BACKCHANNEL_WORDS for run in runs(words))


def longest_s(words: Sequence[Word]) -> float:
    """The longest run; over ``TAKEOVER_S`` it took the turn from a user who had not finished."""
    return max((run[-1].end_s - run[0].start_s for run in runs(words)), default=0.0)


def overlap_s(spans: Sequence[Span], other: Span) -> float:
    """For how long ``spans``, which do not overlap one another, and ``other`` hold at once."""
    return sum(max(0.0, min(span.end_s, other.end_s) - max(span.start_s, other.start_s)) for span in spans)


def stop_s(spans: Sequence[Span], interrupted_at_s: float) -> float | None:
    """From an interruption to the end of the sound it met; None where it met silence."""
    met = [span for span in spans if span.start_s < interrupted_at_s < span.end_s]
    return max(span.end_s for span in met) - interrupted_at_s if met else None

"""How much of a reply the user has heard. Knows no audio and no model: only counts of tokens, letters and samples.

A reply that is cut off leaves in the conversation what was heard, rounded down to whole words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from icebreaker.text.segment import Segment

__all__ = ["SpokenSegment", "heard_text", "heard_tokens"]


@dataclass(frozen=True)
class SpokenSegment:
    """A segment and where its audio lies in the reply's waveform, in samples: [start_sample, stop_sample).

    ``words`` are the letters of the segment up to the end of each word, and the sample at which it has been said; of a
    segment that was cut, as far as they were said. ``None``: not known.
    """

    segment: Segment
    start_sample: int
    stop_sample: int
    words: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_sample <= self.stop_sample:
            raise ValueError(f"expected 0 <= start_sample <= stop_sample, got {self.start_sample}, {self.stop_sample}")


def heard_tokens(spoken: Sequence[SpokenSegment], played_samples: int) -> int:
    """How many tokens of the reply count as heard when ``played_samples`` of its waveform were played.

    A segment that played to its end counts whole; in the one that was cut, a word counts once it has been said, or,
    where that is not known, once its share of the segment's letters has been played.

    Args:
        spoken: the reply's segments in order.
        played_samples: at the output rate, from the start of the reply.
    """
    heard = 0
    for each in spoken:
        if played_samples < each.stop_sample:
            return heard + _heard_within(each, played_samples)
        if played_samples == 0:  # a silent segment in front of everything: nothing was played yet
            return heard
        heard = each.segment.stop
    return heard


def heard_text(spoken: Sequence[SpokenSegment], played_samples: int) -> str:
    """The text of the heard tokens."""
    tokens = heard_tokens(spoken, played_samples)
    text = ""
    for each in spoken:
        inside = min(tokens, each.segment.stop) - each.segment.start
        if inside > 0:
            text += each.segment.text[: each.segment.ends[inside - 1]]
    return text


def _heard_within(spoken: SpokenSegment, played_samples: int) -> int:
    text = spoken.segment.text
    if spoken.words is not None:
        words = [end for end, said in spoken.words if said <= played_samples]
    else:
        length = spoken.stop_sample - spoken.start_sample
        limit = int(max(0, played_samples - spoken.start_sample) / length * len(text)) if length else 0
        words = [match.end() for match in re.finditer(r"\S+", text) if match.end() <= limit]
    return sum(end <= words[-1] for end in spoken.segment.ends) if words else 0

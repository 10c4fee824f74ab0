"""Where a reply's units lie among its frames, roughly (ours): a start for CTC, which alone first learns to be silent.

Each token gets the stretch of sound in which it is said, by the times of words where they are known. Where they are
not, sound is laid over the letters evenly: off by a tenth of a second here and there. CTC puts right what is left.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.models.unit_ctc_loss import IGNORED
from icebreaker.training.unit_extraction import UNIT_RATE, SpokenUnits
from icebreaker.training.word_times import WordTime

__all__ = ["guide", "guided_loss", "laid_by_words", "laid_evenly"]


def laid_evenly(letters: Sequence[int], spoken: SpokenUnits) -> Tensor:
    """Where each token begins, and the last one ends, [tokens + 1] in frames of the recording.

    Args:
        letters: of each token.
        spoken: units and how long each lasted; the first and the last are the silence around the speech.
    """
    weights = torch.tensor(letters, dtype=torch.float64)
    reached = torch.cat([weights.new_zeros(1), weights.cumsum(0)]) / weights.sum().clamp_min(1)
    ends = spoken.durations.cumsum(0).double()
    first, last = float(ends[0]), float(ends[-2]) if len(ends) > 1 else float(ends[-1])
    return first + reached * max(0.0, last - first)


def laid_by_words(offsets: Sequence[tuple[int, int]], words: Sequence[WordTime]) -> Tensor:
    """The same by the times of ``words`` (at least one); ``offsets`` are each token's characters, end exclusive.

    Within a word, and in the pause between two, time is laid over the characters evenly.
    """
    places = [place for word in words for place in (word.first, word.last)]
    times = [time for word in words for time in (word.start_s, word.end_s)]
    edges = [*(begin for begin, _ in offsets), offsets[-1][1]]
    return torch.from_numpy(np.maximum.accumulate(np.interp(edges, places, times))) * UNIT_RATE


def guide(edges: Tensor, states: int, frames: int, spoken: SpokenUnits) -> Tensor:
    """The unit [L] of each of the ``frames`` L that ``states`` LLM states are stretched to.

    Args:
        edges: of the tokens, from ``laid_evenly`` or ``laid_by_words``; where there are more states than tokens
            (``predicting``), the last one says nothing.
        states: M, those of the tokens in order, maybe one more.
        frames: L.
        spoken: units and how long each lasted.
    """
    edges = torch.cat([edges, edges[-1:].expand(states + 1 - len(edges))])
    place = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames * states
    state = place.long().clamp_max(states - 1)
    sound = edges[state] + (place - state) * (edges[state + 1] - edges[state])
    ends = spoken.durations.cumsum(0).double()
    found = torch.searchsorted(ends, sound, right=True).clamp_max(len(ends) - 1)
    found[0], found[-1] = 0, len(ends) - 1
    return spoken.units[found]


def guided_loss(logits: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Nats per frame of ``logits`` [B, L, K + 1]; ``targets`` are [L'] of each row."""
    padded = torch.nn.utils.rnn.pad_sequence(list(targets), batch_first=True, padding_value=IGNORED)
    padded = F.pad(padded, (0, logits.shape[1] - padded.shape[1]), value=IGNORED)
    return F.cross_entropy(logits.float().flatten(0, 1), padded.flatten().to(logits.device), ignore_index=IGNORED)

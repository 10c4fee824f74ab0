"""Where a reply's units lie among its frames, roughly (ours): a start for CTC, which alone first learns to be silent.

The sound is laid over the letters evenly: each token gets the share of it that its letters are of all letters. That is
off by a tenth of a second here and there, and CTC puts it right afterwards.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.models.unit_ctc_loss import IGNORED
from icebreaker.training.unit_extraction import SpokenUnits

__all__ = ["guide", "guided_loss"]


def guide(letters: Sequence[int], states: int, frames: int, spoken: SpokenUnits) -> Tensor:
    """The unit [L] of each of the ``frames`` L that ``states`` LLM states are stretched to.

    Args:
        letters: of each token; where there are more states than tokens (``predicting``), the last one says nothing.
        states: M, those of the tokens in order, maybe one more.
        frames: L.
        spoken: units and how long each lasted.
    """
    weights = torch.tensor([*letters, *[0] * (states - len(letters))], dtype=torch.float64)
    reached = torch.cat([weights.new_zeros(1), weights.cumsum(0)]) / weights.sum().clamp_min(1)  # [M + 1] of the text
    place = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames * states
    state = place.long().clamp_max(states - 1)
    text = reached[state] + (place - state) * (reached[state + 1] - reached[state])
    ends = spoken.durations.cumsum(0).double()
    # The first and the last unit are the silence around the speech.
    first, last = float(ends[0]), float(ends[-2]) if len(ends) > 1 else float(ends[-1])
    found = torch.searchsorted(ends, first + text * max(0.0, last - first), right=True).clamp_max(len(ends) - 1)
    found[0], found[-1] = 0, len(ends) - 1
    return spoken.units[found]


def guided_loss(logits: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Nats per frame of ``logits`` [B, L, K + 1]; ``targets`` are [L'] of each row."""
    padded = torch.nn.utils.rnn.pad_sequence(list(targets), batch_first=True, padding_value=IGNORED)
    padded = F.pad(padded, (0, logits.shape[1] - padded.shape[1]), value=IGNORED)
    return F.cross_entropy(logits.float().flatten(0, 1), padded.flatten().to(logits.device), ignore_index=IGNORED)

"""The CTC loss of unit sequences (arXiv:2409.06666v2, equation of stage 2). Knows nothing of the module or of files."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["IGNORED", "target_frames", "unit_ctc_loss"]

IGNORED = -100  # padding of targets


def target_frames(lengths: Tensor, units: Tensor, upsample: int) -> Tensor:
    """Frames [B] that rows of ``lengths`` [B] tokens are stretched to: at least one for each of ``units`` [B, U].

    Without the stretch a reply of few tokens and many units would have no alignment at all.
    """
    return torch.maximum(lengths * upsample, (units != IGNORED).sum(dim=1))


def unit_ctc_loss(logits: Tensor, frames: Tensor, units: Tensor) -> Tensor:
    """Nats per target unit: the sum over the batch, divided by the number of its units.

    Args:
        logits: [B, L, K + 1]; the last class is the blank.
        frames: [B] valid frames of each row.
        units: [B, U] targets, padded with ``IGNORED``.

    Returns:
        A scalar. Rows without any alignment (more units, counting repeats, than frames) add nothing.

    Raises:
        ValueError: there is no target, or one that is no unit.
    """
    blank, valid = logits.shape[-1] - 1, units != IGNORED
    targets = units[valid]
    if not len(targets) or int(targets.min()) < 0 or int(targets.max()) >= blank:
        raise ValueError(
            f"expected unit targets from 0 to {blank - 1}, padded with {IGNORED}; "
            f"got {'none' if not len(targets) else f'{int(targets.min())} to {int(targets.max())}'}"
        )
    log_probs = F.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    loss = F.ctc_loss(log_probs, targets, frames, valid.sum(dim=1), blank=blank, reduction="sum", zero_infinity=True)
    return loss / len(targets)

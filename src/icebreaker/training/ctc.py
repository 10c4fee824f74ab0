"""CTC over characters: spelling, loss and greedy reading. Knows nothing of encoders or audio."""

import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.training.error_rate import plain_words

__all__ = ["BLANK", "CHARACTERS", "ctc_loss", "greedy_text", "spelled", "spelling"]

BLANK = 0
CHARACTERS = " 'abcdefghijklmnopqrstuvwxyz"  # id = 1 + place


def spelling(text: str) -> Tensor:
    """Character ids [N] of ``text``; what cannot be spelled (digits among it) is left out."""
    return torch.tensor([1 + CHARACTERS.index(c) for c in plain_words(text) if c in CHARACTERS], dtype=torch.long)


def spelled(text: str) -> str:
    """What a perfect reader of ``spelling(text)`` writes."""
    return " ".join("".join(c for c in plain_words(text) if c in CHARACTERS).split())


def greedy_text(logits: Tensor, lengths: Tensor) -> list[str]:
    """Best path of ``logits`` [B, T, 1 + characters], repeats and blanks removed."""
    texts = []
    for row, length in zip(logits.argmax(dim=-1), lengths.tolist(), strict=True):
        path = torch.unique_consecutive(row[:length]).tolist()
        texts.append(" ".join("".join(CHARACTERS[i - 1] for i in path if i != BLANK).split()))
    return texts


def ctc_loss(logits: Tensor, lengths: Tensor, targets: list[Tensor]) -> Tensor:
    """CTC loss per target symbol of ``logits`` [B, T, V] against ``targets`` (one id tensor a row); blank is id 0."""
    target_lengths = torch.tensor([len(target) for target in targets])
    total = F.ctc_loss(
        logits.float().log_softmax(dim=-1).transpose(0, 1),
        torch.cat(targets).to(logits.device),
        lengths.to(logits.device),
        target_lengths.to(logits.device),
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )
    return total / max(1, int(target_lengths.sum()))

"""How a codebook follows the latents: clustering at first, running means afterwards, dead codes reborn.

Knows nothing of waveforms. After VQ-VAE's exponential moving averages (arXiv:1711.00937v2, appendix A.1).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.models.codec import nearest

__all__ = ["CodebookAverages", "cluster"]

CLUSTER_ROUNDS = 12


class CodebookAverages(nn.Module):
    """Running counts [N] and sums [N, D] of the latents that chose each row of ``book`` [N, D]."""

    counts: Tensor
    sums: Tensor
    ready: Tensor

    def __init__(self, book: Tensor, *, decay: float = 0.99, restart_below: float = 0.3) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        self.register_buffer("counts", book.new_zeros(len(book)))
        self.register_buffer("sums", torch.zeros_like(book))
        self.register_buffer("ready", book.new_zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, book: Tensor, latents: Tensor, generator: torch.Generator | None = None) -> None:
        """Set ``book`` to cluster centres of ``latents`` [M, D]."""
        centres, counts = cluster(latents, len(book), generator)
        self.counts.copy_(counts.clamp_min(1.0))
        self.sums.copy_(centres * self.counts[:, None])
        book.copy_(centres)
        self.ready.fill_(True)

    @torch.no_grad()
    def follow(self, book: Tensor, latents: Tensor, codes: Tensor) -> int:
        """Move ``book`` towards the ``latents`` [M, D] that chose ``codes`` [M]; restart the nearly unused.

        Returns:
            How many codes were restarted, each at a random one of ``latents``.
        """
        chosen = F.one_hot(codes, len(book)).to(latents.dtype)  # [M, N]
        self.counts.lerp_(chosen.sum(dim=0), 1 - self.decay)
        self.sums.lerp_(chosen.T @ latents, 1 - self.decay)
        usual = self.counts.mean()
        dead = (self.counts < self.restart_below * usual).nonzero().squeeze(1)[: len(latents) // 8]
        if len(dead):
            reborn = latents[torch.randperm(len(latents))[: len(dead)]]
            self.counts[dead] = usual
            self.sums[dead] = reborn * usual
        book.copy_(self.sums / self.counts[:, None])
        return len(dead)


def cluster(points: Tensor, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """K-means of ``points`` [M, D]: centres [count, D] and how many points each has [count]."""
    first = torch.randperm(len(points), generator=generator)
    centres = points[first[torch.arange(count) % len(points)]].clone()
    counts = points.new_zeros(count)
    for _ in range(CLUSTER_ROUNDS):
        owner = nearest(points, centres)
        counts = torch.bincount(owner, minlength=count).to(points.dtype)
        sums = torch.zeros_like(centres).index_add_(0, owner, points)
        empty = counts == 0
        centres = torch.where(empty[:, None], centres, sums / counts.clamp_min(1)[:, None])
        if empty.any():
            spare = torch.randint(len(points), (int(empty.sum()),), generator=generator)
            centres[empty] = points[spare]
    return centres, counts

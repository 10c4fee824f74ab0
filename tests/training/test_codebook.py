"""Codebooks: clusters at first, running means afterwards, no code left dead."""

import torch

from icebreaker.models.codec import nearest
from icebreaker.training.codebook import CodebookAverages, cluster


def test_clusters_find_the_groups() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = centres.repeat(50, 1) + 0.01 * torch.randn(150, 2)
    found, counts = cluster(points, 3, torch.Generator().manual_seed(2))
    assert counts.sum() == 150
    distances = torch.cdist(centres, found).min(dim=1).values
    assert int((distances < 0.1).sum()) >= 2
    more, counts = cluster(points[:2], 5)
    assert more.shape == (5, 2)
    assert torch.isfinite(more).all()


def test_rows_follow_the_mean_of_what_chose_them() -> None:
    book = torch.tensor([[0.0], [10.0]])
    averages = CodebookAverages(book, decay=0.5)
    averages.counts.fill_(1.0)
    averages.sums.copy_(book)
    latents = torch.tensor([[1.0], [3.0], [9.0], [9.0]])
    restarted = averages.follow(book, latents, nearest(latents, book))
    assert restarted == 0
    # counts 0.5 * 1 + 0.5 * 2, sums 0.5 * (0, 10) + 0.5 * (4, 18)
    torch.testing.assert_close(book, torch.tensor([[2.0 / 1.5], [14.0 / 1.5]]))


def test_dead_codes_restart_at_latents() -> None:
    torch.manual_seed(1)
    book = torch.cat([torch.zeros(1, 3), torch.full((7, 3), 100.0)])  # seven codes that nothing will choose
    averages = CodebookAverages(book, decay=0.5)
    averages.counts.fill_(1.0)
    averages.sums.copy_(book)
    latents = torch.randn(64, 3)
    restarted = 0
    for _ in range(12):
        restarted += averages.follow(book, latents, nearest(latents, book))
    assert restarted >= 7
    assert book.abs().max() < 10
    assert len(nearest(latents, book).unique()) == 8

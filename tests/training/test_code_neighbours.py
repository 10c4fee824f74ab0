"""Codes that may stand for each other: shares, noise, loss, and where a decoder begins."""

from pathlib import Path

import pytest
import torch

from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.training.code_neighbours import CodeNeighbours, NeighbourConfig, start_from_codebook

PAD = 9


def line(noise: float = 0.0, spread: float = 0.5) -> CodeNeighbours:
    """Codes 0 to 5 at 0, 1, 2, 3, 10 and 11 on a line."""
    book = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0]])
    return CodeNeighbours(book, NeighbourConfig(codec=Path("codec"), spread=spread, noise=noise))


def test_shares_fall_with_distance() -> None:
    shares = line().shares
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    assert float(shares[1, 1] / shares[1, 2]) == pytest.approx(torch.tensor(2.0).exp().item(), rel=1e-4)  # 1 / 0.5 / 2
    assert shares[1, 0] == shares[1, 2]
    assert shares[0, 4] < 1e-6


def test_noise_draws_from_the_neighbourhood() -> None:
    torch.manual_seed(0)
    codes = torch.full((40, 50), 1)
    assert torch.equal(line().noisy(codes), codes)
    drawn = line(noise=0.5).noisy(codes)
    assert set(drawn.unique().tolist()) <= {0, 1, 2, 3}
    expected = 1 - 0.5 * float(1 - line().shares[1, 1])
    assert float((drawn == 1).float().mean()) == pytest.approx(expected, abs=0.03)


def test_cross_entropy_is_least_at_the_neighbourhood_itself() -> None:
    neighbours, expected = line(), torch.tensor([[1, 4, 7, PAD]])  # two codes, eos, padding
    ideal = torch.full((1, 4, 10), -30.0)
    ideal[0, 0, :6] = neighbours.shares[1].clamp(min=1e-12).log()
    ideal[0, 1, :6] = neighbours.shares[4].clamp(min=1e-12).log()
    ideal[0, 2, 7] = 30.0
    least = neighbours.cross_entropy(ideal, expected, PAD)
    entropies = torch.special.entr(neighbours.shares[[1, 4]]).sum()
    torch.testing.assert_close(least, entropies / 3, atol=1e-4, rtol=1e-4)
    sure = ideal.clone()
    sure[0, 0] = -30.0
    sure[0, 0, 1] = 30.0
    assert neighbours.cross_entropy(sure, expected, PAD) > least + 1
    padded = ideal.clone()
    padded[0, 3] = torch.randn(10)
    assert neighbours.cross_entropy(padded, expected, PAD) == least


def test_nearness_forgives_neighbours_only() -> None:
    book = torch.arange(20.0)[:, None]
    neighbours = CodeNeighbours(book, NeighbourConfig(codec=Path("codec")))
    logits = torch.nn.functional.one_hot(torch.tensor([[2, 12, 3]]), 24).float()
    assert float(neighbours.nearness(logits, torch.tensor([[0, 2, 23]]))) == 0.5  # eos, 22 or pad do not count


def test_a_decoder_begins_with_near_codes_near() -> None:
    torch.manual_seed(0)
    book = torch.randn(16, 8)
    book[3] = book[5] + 0.01
    model = CodecLM(CodecLMConfig(codes=16, llm_dim=64, hidden=16, linear_units=24, blocks=2, heads=2, prefix=False))
    ends = model.embedding.weight[16:].clone()
    start_from_codebook(model, CodeNeighbours(book, NeighbourConfig(codec=Path("codec"))))
    rows = model.embedding.weight
    assert (rows[3] - rows[5]).norm() < 0.05 * (rows[3] - rows[4]).norm()
    assert float(rows[:16].detach().square().mean()) == pytest.approx(1.0, abs=0.4)
    torch.testing.assert_close(model.head.weight[:16], 0.03 * rows[:16])
    torch.testing.assert_close(rows[16:], ends)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="spread over 0"):
        NeighbourConfig(codec=Path("codec"), spread=0.0)

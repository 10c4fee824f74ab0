"""Muon: what it does to a matrix, which matrices it does it to, and that its runs can be resumed."""

from pathlib import Path

import pytest
import torch
from torch import nn

from icebreaker.training.alignment import slow_down
from icebreaker.training.loop import OptimConfig, Run
from icebreaker.training.muon import RMS, Muon, hidden_matrices, orthogonal


@pytest.mark.parametrize("shape", [(32, 32), (64, 24), (24, 64)])
def test_all_directions_count_alike(shape: tuple[int, int]) -> None:
    """Singular values of very different sizes come to about one, and each keeps its direction."""
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = (left * torch.logspace(0, -1.5, min(shape))) @ right
    turned = orthogonal(matrix)
    assert turned.shape == shape
    assert turned.dtype == matrix.dtype
    along = (left.T @ turned @ right.T).diagonal()
    assert 0.5 < float(along.min()) <= float(along.max()) < 1.4
    assert float((turned - (left * along) @ right).norm()) < 0.1 * float(turned.norm())


def test_an_update_is_as_large_as_one_of_adamw() -> None:
    """Whatever the gradient's size: the root of the mean square is ``RMS`` times the rate, for any shape."""
    for shape in ((48, 48), (192, 48), (48, 192)):
        torch.manual_seed(1)
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = 1e-4 * torch.randn(shape)
        Muon([{"params": [weight], "orthogonal": True}], lr=1e-2).step()
        assert float(weight.detach().square().mean().sqrt()) == pytest.approx(1e-2 * RMS, rel=0.25)


def test_only_hidden_matrices_are_turned() -> None:
    """Embeddings, heads, biases, norms and convolutions are AdamW's, to the last bit; frozen layers are nobody's."""
    frozen = nn.Linear(16, 16).requires_grad_(False)
    layers = [nn.Linear(16, 16), nn.Embedding(32, 16), nn.LayerNorm(16), nn.Conv1d(16, 16, 3), nn.Linear(16, 200)]
    assert [id(w) for w in hidden_matrices([nn.ModuleList([*layers, frozen])])] == [id(layers[0].weight)]

    def stepped(optimizer: str) -> nn.Module:
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 200))
        run = Run({"model": model}, OptimConfig(steps=3, lr=1e-2, optimizer=optimizer, weight_decay=0.1))
        for _ in range(3):
            model(torch.linspace(-1, 1, 16)[None]).square().sum().backward()
            for group in run.optimizer.param_groups:
                group["lr"] = 1e-2
            for parameter in model[0].parameters():
                parameter.grad = torch.ones_like(parameter) * 1e-3  # so that what follows sees the same in both
            for parameter in [*model[1].parameters(), *model[2].parameters()]:
                parameter.grad = torch.full_like(parameter, 0.5)
            run.optimizer.step()
            run.optimizer.zero_grad()
        return model

    adamw, muon = stepped("adamw"), stepped("muon")
    assert not torch.equal(adamw[0].weight, muon[0].weight)
    torch.testing.assert_close(adamw[0].bias, muon[0].bias)
    for ours, theirs in zip(muon[1:].parameters(), adamw[1:].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_slowed_part_is_still_turned_at_its_own_rate() -> None:
    """Stage alignment slows the encoder down by rebuilding the optimizer: it stays Muon, matrix by matrix."""

    def moved(factor: float) -> float:
        torch.manual_seed(4)
        model = nn.Linear(16, 16)
        run = Run({"model": model}, OptimConfig(steps=1, lr=1e-2, optimizer="muon", weight_decay=0.0))
        slow_down(run, model, factor)
        before = model.weight.detach().clone()
        model.weight.grad = torch.eye(16) * 1e-5
        run.optimizer.step()
        assert isinstance(run.optimizer, Muon)
        return float((model.weight.detach() - before).norm())

    assert moved(0.25) == pytest.approx(0.25 * moved(1.0), rel=1e-3)
    assert moved(1.0) == pytest.approx(1e-2 * RMS * 4 * 4, rel=0.3)  # all sixteen directions, whatever the gradient


def test_a_run_goes_on_where_its_state_was_saved(tmp_path: Path) -> None:
    def run_of() -> tuple[Run, nn.Linear]:
        torch.manual_seed(3)
        model = nn.Linear(12, 12)
        return Run({"model": model}, OptimConfig(steps=6, lr=1e-2, optimizer="muon")), model

    def step(run: Run, model: nn.Linear, seed: int) -> None:
        x = torch.randn(8, 12, generator=torch.Generator().manual_seed(seed))
        (model(x) - x.flip(1)).square().mean().backward()
        run.optimizer.step()
        run.optimizer.zero_grad()

    whole, model = run_of()
    for seed in range(3):
        step(whole, model, seed)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    for seed in range(3, 6):
        step(whole, model, seed)
    again, resumed = run_of()
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for seed in range(3, 6):
        step(again, resumed, seed)
    assert torch.equal(resumed.weight, model.weight)
    assert torch.equal(resumed.bias, model.bias)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="adamw or muon, got 'sgd'"):
        OptimConfig(steps=1, lr=1e-3, optimizer="sgd")

"""Layers that are found and recomputed; sharding itself is in tests/dist, with the processes it needs."""

import pytest
import torch
from torch import Tensor, nn

from icebreaker.training.loop import OptimConfig, Run
from icebreaker.training.sharding import blocks, clip_gradients, recompute, shard_layers, whole_state


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.dropout, self.seen = nn.Linear(4, 4), nn.Dropout(0.5), 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.dropout(torch.tanh(self.linear(x)))


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.layers = nn.Linear(3, 4), nn.ModuleList(Layer() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for layer in self.layers:
            x = layer(x)
        return x


def gradients(model: Stack) -> list[Tensor]:
    torch.manual_seed(1)
    model(torch.ones(2, 3)).square().sum().backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def test_layers_are_what_stacks_are_of() -> None:
    stack = Stack()
    assert blocks(stack) == list(stack.layers)
    assert blocks(nn.Sequential(nn.Linear(1, 1))) == []


def test_recomputed_layers_give_the_same_gradients_dropout_included() -> None:
    torch.manual_seed(0)
    kept, again = Stack(), Stack()
    again.load_state_dict(kept.state_dict())
    Run({"model": again}, OptimConfig(steps=1, lr=1.0, recompute=True))
    recompute([again])  # a second time changes nothing
    expected, found = gradients(kept), gradients(again)
    assert len(expected) == 8
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert [layer.seen for layer in kept.layers] == [1, 1, 1]
    assert [layer.seen for layer in again.layers] == [2, 2, 2]
    with torch.no_grad():
        again(torch.ones(2, 3))
    assert [layer.seen for layer in again.layers] == [3, 3, 3]


def test_alone_nothing_is_sharded() -> None:
    stack = Stack()
    shard_layers(stack)
    assert type(stack) is Stack
    assert all(torch.equal(value, stack.state_dict()[name]) for name, value in whole_state(stack).items())


def test_clipping_gives_the_norm_before() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], 1.0) == pytest.approx(5.0)
    assert parameter.grad.norm() == pytest.approx(1.0, abs=1e-4)

import torch
from torch import nn

from icebreaker.training.adversary import Adversary, AdversaryConfig

CONFIG = AdversaryConfig(periods=(2, 3), windows=(64,), channels=4, warmup=2, lr=3e-3)


def test_judges_learn_alone_then_speak() -> None:
    torch.manual_seed(0)
    adversary, made = Adversary(CONFIG), nn.Parameter(0.1 * torch.randn(2, 640))
    opinion, parts = adversary.opinions(made, torch.randn(2, 640), steps=1)
    assert not opinion.requires_grad
    assert opinion == 0
    assert parts.keys() == {"judges"}
    opinion, parts = adversary.opinions(made, torch.randn(2, 640), steps=2)
    torch.testing.assert_close(opinion, parts["fooled"] + 2.0 * parts["matching"])
    opinion.backward()
    assert made.grad is not None
    assert made.grad.abs().sum() > 0
    assert all(parameter.grad is None or not parameter.requires_grad for parameter in adversary.judges.parameters())


def test_judges_tell_noise_from_tones() -> None:
    torch.manual_seed(0)
    adversary = Adversary(CONFIG)
    tone = 0.1 * torch.sin(torch.arange(640) / 5.0).expand(4, -1)
    losses = [float(adversary.opinions(0.1 * torch.randn(4, 640), tone, steps=0)[1]["judges"]) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_the_schedule_slows_the_judges() -> None:
    adversary = Adversary(CONFIG)
    adversary.opinions(torch.randn(1, 640), torch.randn(1, 640), steps=0, rate=0.25)
    assert adversary.optimizer.param_groups[0]["lr"] == 0.25 * 3e-3

"""Spectral distances and judges' losses."""

import torch

from icebreaker.training.codec_losses import SpectralLoss, discriminator_loss, feature_matching, generator_loss
from icebreaker.training.discriminators import Discriminators


def test_spectral_loss_is_zero_for_the_same_and_grows() -> None:
    torch.manual_seed(0)
    real = 0.1 * torch.randn(2, 4800)
    loss = SpectralLoss(24_000)
    assert [float(part) for part in loss(real, real)] == [0.0, 0.0]
    near, far = loss(real + 0.01 * torch.randn_like(real), real), loss(0.01 * real, real)
    assert all(0 < float(a) < float(b) for a, b in zip(near, far, strict=True))


def test_judges_give_finite_scores_and_gradients() -> None:
    torch.manual_seed(0)
    judges = Discriminators((2, 3), (512,), 4)
    real, made = 0.1 * torch.randn(2, 3600), (0.1 * torch.randn(2, 3600)).requires_grad_()
    real_scores, real_features = judges(real)
    scores, features = judges(made)
    assert len(scores) == 3
    assert len(features) == 12
    loss = discriminator_loss(real_scores, scores) + generator_loss(scores) + feature_matching(real_features, features)
    loss.backward()
    assert torch.isfinite(made.grad).all()
    assert made.grad.abs().sum() > 0


def test_least_squares_targets() -> None:
    ones, zeros = [torch.ones(3)], [torch.zeros(3)]
    assert float(discriminator_loss(ones, zeros)) == 0
    assert float(discriminator_loss(zeros, ones)) == 2
    assert float(generator_loss(ones)) == 0
    assert float(feature_matching(ones, ones)) == 0

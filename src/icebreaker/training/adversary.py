"""Judges of sound and how they learn beside what they judge; shared by codec and unit vocoder. Knows no generator."""

from dataclasses import dataclass

import torch
from torch import Tensor

from icebreaker.training.codec_losses import discriminator_loss, feature_matching, generator_loss
from icebreaker.training.discriminators import Discriminators
from icebreaker.training.sharding import average_gradients

__all__ = ["Adversary", "AdversaryConfig"]


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """The judges, their learning rate and what their opinion weighs."""

    periods: tuple[int, ...] = (2, 3, 5, 7)
    windows: tuple[int, ...] = (512, 1024)
    channels: int = 12
    lr: float = 4e-4
    weight: float = 1.0
    feature_weight: float = 2.0
    warmup: int = 100  # steps in which the judges learn alone


class Adversary:
    """Judges and their optimizer; a run keeps both in its checkpoint as ``parts``."""

    def __init__(self, config: AdversaryConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.judges = Discriminators(config.periods, config.windows, config.channels).to(device)
        self.optimizer = torch.optim.AdamW(self.judges.parameters(), lr=config.lr, betas=(0.8, 0.99))

    @property
    def parts(self) -> dict[str, torch.nn.Module | torch.optim.Optimizer]:
        """What is saved and restored with a run."""
        return {"judges": self.judges, "judges_optimizer": self.optimizer}

    def opinions(
        self, made: Tensor, real: Tensor, *, steps: int, rate: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Step the judges, then ask what they think of ``made``.

        Args:
            made: [B, S], with gradients.
            real: [B, S], what it should have been.
            steps: that the judges have taken so far; below ``warmup`` their opinion does not count yet.
            rate: of the schedule: 1 is the configured learning rate.

        Returns:
            The weighted loss for what made it, and named parts.
        """
        loss = self._learn(made.detach(), real, rate)
        if steps < self.config.warmup:
            return loss.new_zeros(()), {"judges": loss}
        self.judges.requires_grad_(False)
        with torch.no_grad():
            _, real_features = self.judges(real)
        scores, features = self.judges(made)
        fooled, matching = generator_loss(scores), feature_matching(real_features, features)
        opinion = self.config.weight * fooled + self.config.feature_weight * matching
        return opinion, {"judges": loss, "fooled": fooled, "matching": matching}

    def _learn(self, made: Tensor, real: Tensor, rate: float) -> Tensor:
        self.judges.requires_grad_(True)
        real_scores, _ = self.judges(real)
        made_scores, _ = self.judges(made)
        loss = discriminator_loss(real_scores, made_scores)
        for settings in self.optimizer.param_groups:
            settings["lr"] = self.config.lr * rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(list(self.judges.parameters()))
        self.optimizer.step()
        return loss.detach()

"""What a training run changes, how it is set, and its checkpoints. Knows nothing of models or losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from icebreaker.errors import TrainingError
from icebreaker.training import sharded_checkpoint
from icebreaker.training.checkpoint_file import (
    load_trainable,
    optimizer_like,
    read_file,
    trainable_state,
    write_file,
)
from icebreaker.training.devices import check_device_name
from icebreaker.training.muon import Muon, hidden_matrices
from icebreaker.training.processes import is_main, world
from icebreaker.training.sharding import recompute, shard_layers

__all__ = ["OptimConfig", "Run", "Stateful", "begun"]


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Linear warm-up, then cosine decay to ``final_ratio``; ``steps`` is the whole run."""

    steps: int
    lr: float
    warmup: int = 200
    final_ratio: float = 0.05
    betas: tuple[float, ...] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    max_grad_norm: float = 5.0
    optimizer: str = "adamw"  # or "muon", for the hidden matrices: fewer steps, each dearer
    accumulate: int = 1  # batches of a step, of all processes together
    device: str = "auto"  # the GPU of the process, else the CPU; or "cpu", "cuda", "cuda:N"
    dtype: str = "float32"  # or "bfloat16": autocast
    shard_llm: bool = True  # of several processes each keeps a part of the LLM's layers; else all of them
    recompute: bool = False  # layers' activations for the gradient, instead of keeping them
    seed: int = 0
    log_every: int = 20
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1:
            raise ValueError(f"steps {self.steps} and accumulate {self.accumulate} must be at least 1")
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, got {self.optimizer!r}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")
        check_device_name(self.device)


class Stateful(Protocol):
    """A module or an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """All that it is."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Become what ``state_dict`` gave."""


class Run:
    """What changes while training: named trainable modules, their optimizer, the step.

    ``also`` names what a stage keeps and steps by itself (a discriminator and its optimizer): saved and restored only.
    ``llm`` is the transformers model that the loss goes through, frozen or among ``modules``: its layers are sharded
    over the processes. With ``rows_dealt`` the stage itself gives each process its rows of every batch; else each
    process has its share of the batches of a step.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        config: OptimConfig,
        also: Mapping[str, Stateful] | None = None,
        *,
        llm: nn.Module | None = None,
        rows_dealt: bool = False,
    ) -> None:
        self.modules = dict(modules)
        self.also = dict(also or {})
        self.config = config
        self.step = 0
        self.ranks = 1 if rows_dealt else world()  # among which the batches of a step are dealt
        if config.accumulate % self.ranks:
            raise TrainingError(
                f"a step of {config.accumulate} batches cannot be dealt to {self.ranks} processes; set "
                f"optim.accumulate={-(-config.accumulate // self.ranks) * self.ranks}, or start another number of them"
            )
        if llm is not None and config.shard_llm:
            shard_layers(llm)
        if config.recompute:
            recompute([*self.modules.values(), *([] if llm is None else [llm])])
        self.parameters = [p for m in self.modules.values() for p in m.parameters() if p.requires_grad]
        if not self.parameters:
            raise TrainingError("nothing to train: no parameter requires a gradient")
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.AdamW | Muon:
        config = self.config
        turned = hidden_matrices(self.modules.values()) if config.optimizer == "muon" else []
        if any(isinstance(weight, DTensor) for weight in turned):
            raise TrainingError(
                'optimizer = "muon" needs whole matrices, and the layers that train are sharded among processes; set '
                'shard_llm = false, or optimizer = "adamw"'
            )
        taken = {id(weight) for weight in turned}
        decay = [p for p in self.parameters if p.dim() > 1 and id(p) not in taken]
        plain = [p for p in self.parameters if p.dim() <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decay, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0},
        ]  # fmt: skip
        rate, betas, eps = config.lr, (config.betas[0], config.betas[1]), config.eps
        if config.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=eps)
        groups.append({"params": turned, "weight_decay": config.weight_decay, "orthogonal": True})
        return Muon(groups, lr=rate, betas=betas, eps=eps)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs; frozen parts are not in it unless they are among ``modules``."""
        return {
            "step": self.step,
            "modules": {name: trainable_state(module) for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "also": {name: part.state_dict() for name, part in self.also.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave in one process."""
        for key, parts in (("modules", self.modules), ("also", self.also)):
            if wrong := sorted(parts.keys() ^ state.get(key, {}).keys()):
                raise TrainingError(f"the checkpoint is of another stage: {wrong[0]} is on one side only")
        for name, module in self.modules.items():
            load_trainable(module, state["modules"][name], name)
        self.optimizer.load_state_dict(optimizer_like(state["optimizer"], self.optimizer))
        for name, part in self.also.items():
            part.load_state_dict(state["also"][name])
        self.step = int(state["step"])

    def save(self, path: Path) -> None:
        """Write the one file of one process: a full disk or a kill never leaves half of it."""
        write_file(self.state_dict(), path)

    def keep(self, folder: Path) -> None:
        """Save to ``folder`` and remove what was saved before: ``last.pt``, or a folder of several processes."""
        if world() == 1:
            self.save(folder / "last.pt")
            sharded_checkpoint.remove_all_but(folder, None)
            return
        state = self.state_dict()
        kept = sharded_checkpoint.write(
            folder, self.step, state["modules"], self.optimizer, self.names(), state["also"]
        )
        sharded_checkpoint.remove_all_but(folder, kept)
        if is_main():
            (folder / "last.pt").unlink(missing_ok=True)

    def resume(self, folder: Path) -> None:
        """Go on from what ``keep`` left in ``folder``, of however many processes; nothing there is nothing done."""
        shards, file = sharded_checkpoint.newest(folder), folder / "last.pt"
        state = read_file(file) if file.exists() else None
        if shards and (state is None or sharded_checkpoint.step_of(shards) > state["step"]):
            modules = {name: trainable_state(module) for name, module in self.modules.items()}
            also = sharded_checkpoint.read(shards, modules, self.optimizer, self.names(), self.also.keys())
            for name, part in self.also.items():
                part.load_state_dict(also[name])
            self.step = sharded_checkpoint.step_of(shards)
        elif state:
            self.load_state_dict(state)

    def names(self) -> dict[nn.Parameter, str]:
        """Every trained parameter and what it is called in a checkpoint."""
        return {
            parameter: f"{name}.{key}"
            for name, module in self.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }


def begun(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint that a run would go on from."""
    return (folder / "last.pt").exists() or sharded_checkpoint.newest(folder) is not None

"""Models over several processes: sharded layers (FSDP2), averaged gradients, recomputed activations.

The decoder layers of an LLM are sharded, frozen or not; what lies around them (embedding, final norm, head) and all
trained parts of ours are whole in every process. Knows nothing of steps, data or files.
"""

import functools
from collections.abc import Iterable, Sequence
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from icebreaker.training.processes import world

__all__ = [
    "average_gradients", "average_statistics", "blocks", "clip_gradients", "like", "recompute", "shard_layers",
    "spread_from_main", "whole_state",
]  # fmt: skip

BUCKET = 1 << 25  # numbers that are averaged at once


def blocks(model: nn.Module) -> list[nn.Module]:
    """The members of the outermost ``nn.ModuleList``s: the layers of whatever is a stack of them."""
    if isinstance(model, nn.ModuleList):
        return list(model)
    return [block for child in model.children() for block in blocks(child)]


def shard_layers(model: nn.Module) -> None:
    """Keep of every decoder layer of a transformers causal LM ``model`` one part in each process.

    A layer is gathered while it computes, forward and backward, and let go after. With one process nothing changes.
    """
    if world() == 1:
        return
    decoder = model.base_model if isinstance(model.base_model, nn.Module) else model
    layers = blocks(decoder)
    mesh = init_device_mesh(next(model.parameters()).device.type, (world(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    around = {parameter for parameter in decoder.parameters() if not isinstance(parameter, DTensor)}
    fully_shard(decoder, mesh=mesh, ignored_params=around)  # the root: gathers ahead of the layer that computes


def recompute(modules: Iterable[nn.Module]) -> None:
    """Let the layers of ``modules`` keep no activations but compute them again for the gradient."""
    for block in chain.from_iterable(map(blocks, modules)):
        if not isinstance(block.forward, functools.partial):
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """``module.state_dict()`` with every sharded tensor gathered; all processes have to call it."""
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in module.state_dict().items()
    }


def like(value: Tensor, other: Tensor) -> Tensor:
    """The whole ``value`` sharded as ``other`` is; all processes have to call it."""
    if not isinstance(other, DTensor):
        return value
    return distribute_tensor(value.to(other.device), other.device_mesh, other.placements)


@torch.no_grad()
def spread_from_main(modules: Iterable[nn.Module]) -> None:
    """Give every process the main one's weights of what is not sharded."""
    if world() == 1:
        return
    for module in modules:
        for tensor in chain(module.parameters(), module.buffers()):
            if not isinstance(tensor, DTensor):
                dist.broadcast(tensor.detach(), 0)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Mean over the processes of all gradients that sharding has not averaged already.

    A parameter without a gradient in some process counts as 0 there; one without in all of them keeps none.
    """
    if world() == 1:
        return
    replicated = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if not replicated:
        return
    used = torch.tensor([p.grad is not None for p in replicated], dtype=torch.uint8, device=replicated[0].device)
    dist.all_reduce(used, dist.ReduceOp.MAX)
    gradients = list[Tensor]()
    for parameter, somewhere in zip(replicated, used.tolist(), strict=True):
        if somewhere:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
    _average(gradients)


@torch.no_grad()
def average_statistics(modules: Iterable[nn.Module]) -> None:
    """Mean over the processes of what batch normalisation has seen."""
    if world() == 1:
        return
    norms = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    _average([seen for norm in norms for seen in (norm.running_mean, norm.running_var) if seen is not None])


def _average(tensors: Sequence[Tensor]) -> None:
    """In place, in buckets of one dtype."""
    bucket, size = list[Tensor](), 0
    for index, tensor in enumerate(tensors):
        bucket.append(tensor)
        size += tensor.numel()
        following = tensors[index + 1] if index + 1 < len(tensors) else None
        if size >= BUCKET or following is None or following.dtype != tensor.dtype:
            _average_bucket(bucket)
            bucket, size = [], 0


def _average_bucket(bucket: Sequence[Tensor]) -> None:
    if len(bucket) == 1 and bucket[0].is_contiguous():  # perhaps a large one: no copy
        dist.all_reduce(bucket[0])
        bucket[0].div_(world())
        return
    flat = torch.cat([each.reshape(-1) for each in bucket])
    dist.all_reduce(flat)
    for each, total in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
        each.copy_(total.view_as(each) / world())


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scale all gradients down to a common norm of at most ``limit``; returns the norm before."""
    if world() == 1:
        return float(nn.utils.clip_grad_norm_(parameters, limit))
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    own = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    shards = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    square = _square(shards, gradients[0].device)
    dist.all_reduce(square)
    norm = (square + _square(own, square.device)).sqrt()
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*own, *shards):
        gradient.mul_(scale)
    return float(norm)


def _square(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    return sum((tensor.float().square().sum() for tensor in tensors), torch.zeros((), device=device))

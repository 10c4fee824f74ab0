"""A fingerprint of weights: proof that a frozen model did not move, and that a bundle meets the LLM it was made for."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["tensors_sha256", "weights_sha256"]


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all parameters and persistent buffers, in name order."""
    return tensors_sha256(module.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The same over named tensors; sharded ones are gathered, so all processes have to call it."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        value = getattr(value, "full_tensor", lambda own=value: own)().detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

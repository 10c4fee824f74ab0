"""A GPU for machines without one: tensors that say they are on cuda:0, lie in memory, and refuse to meet the CPU's.

Every call of torch passes here (``TorchFunctionMode``). A tensor that was moved to or made on "cuda" is marked, and so
is all that is computed from it; an operation that gets marked and unmarked tensors fails as it would on a real GPU.
What a GPU allows is allowed: scalars of the CPU in arithmetic, indices of the CPU, copies between both.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

__all__ = ["GPU", "PretendedGPU", "on_gpu"]

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
MEETING = {"copy_", "_has_compatible_shallow_copy_type"}  # of both devices
INDEXED = {"__getitem__", "index_put_", "index_put"}  # a GPU's tensor takes indices from the CPU
PLACES = {"device": GPU, "is_cuda": True, "is_cpu": False}  # what a tensor of the GPU says of itself
HOST_ONLY = {"numpy", "__array__", "__dlpack__"}


def on_gpu(tensor: Tensor) -> bool:
    """Whether ``tensor`` is marked; to be asked outside of the mode, too."""
    return bool(tensor.__dict__.get("_pretended", False))


class PretendedGPU(TorchFunctionMode):
    """While this is entered, there is a cuda:0. ``computed`` are the devices on which anything was."""

    def __init__(self) -> None:
        super().__init__()
        self.computed = set[torch.device]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        owner = getattr(getattr(func, "__self__", None), "__name__", None)  # of a property: its name
        if owner in PLACES and name == "__get__" and on_gpu(args[0]):
            return PLACES[owner]
        if owner == "data" and name == "__set__":
            func(*args)
            args[0].__dict__["_pretended"] = on_gpu(args[1])
            return None
        if name in HOST_ONLY and on_gpu(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in ("to", "cpu", "cuda") and args and isinstance(args[0], Tensor):
            return _moved(func, name, args, kwargs)
        place = self._of_result(name, args, kwargs)
        self.computed.add(place)
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
        return _marked(func(*args, **kwargs), place)

    def _of_result(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        asked = kwargs.get("device")
        if asked is not None:
            return GPU if _is_cuda(asked) else CPU
        if name in ("tensor", "backward") or not tensors:
            return CPU
        first = _place(tensors[0])
        if name in MEETING or (name in INDEXED and first == GPU):
            return first
        if name == "ctc_loss":  # lengths may lie anywhere
            tensors = tensors[:2]
        places = {_place(tensor) for tensor in tensors if tensor.dim() or on_gpu(tensor)}
        if len(places) > 1:
            shapes = [(tuple(tensor.shape), str(_place(tensor))) for tensor in tensors]
            raise RuntimeError(f"expected all tensors on the same device: {name} of {shapes}")
        return places.pop() if places else CPU


def _place(tensor: Tensor) -> torch.device:
    return GPU if on_gpu(tensor) else CPU


def _marked(result: Any, place: torch.device) -> Any:
    for leaf in tree_leaves(result):
        if isinstance(leaf, Tensor):
            leaf.__dict__["_pretended"] = place == GPU
    return result


def _is_cuda(value: Any) -> bool:
    return (isinstance(value, torch.device) and value.type == "cuda") or (
        isinstance(value, str) and value.split(":")[0] == "cuda"
    )


def _moved(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """``to``, ``cpu`` and ``cuda``: really moved only between the marks, and then a copy."""
    tensor = args[0]
    leaves, spec = tree_flatten((args[1:], kwargs))
    there = on_gpu(tensor)
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            there = on_gpu(leaf)
        elif _is_cuda(leaf) or isinstance(leaf, torch.device) or leaf in ("cpu", "meta"):
            there = _is_cuda(leaf)
    there = {"cpu": False, "cuda": True}.get(name, there)
    rest, named = tree_unflatten([CPU if _is_cuda(leaf) else leaf for leaf in leaves], spec)
    found: Tensor = tensor if name == "cuda" else func(tensor, *rest, **named)
    if there != on_gpu(tensor) and found is tensor:
        found = tensor.clone()
    return tensor if found is tensor else _marked(found, GPU if there else CPU)

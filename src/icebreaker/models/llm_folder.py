"""Hugging Face LLM folders: read them strictly, and fingerprint what is stored. Knows nothing of how an LLM is used."""

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from icebreaker.errors import CheckpointError

__all__ = ["folder_sha256", "read_model", "read_tokenizer", "weight_files"]

ADVICE = "give the folder of a Hugging Face causal LM, as written by save_pretrained or downloaded whole"


def read_model(folder: Path, device: str | torch.device, dtype: torch.dtype) -> nn.Module:
    """The causal LM in ``folder``, every weight of it read from there.

    Raises:
        CheckpointError: the folder is missing, damaged, incomplete, or not a causal LM's.
    """
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is no folder"
        raise CheckpointError(f"{folder}: {what}; {ADVICE}")
    weight_files(folder)
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True)
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{folder}: not loadable as a causal LM: {_first_line(error)}; {ADVICE}") from error
    for trouble in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found := report.get(trouble):
            names = sorted(map(str, found))
            raise CheckpointError(f"{folder}: {trouble.replace('_', ' ')}: {', '.join(names[:3])}; {ADVICE}")
    return model.to(device)  # type: ignore[no-any-return]


def read_tokenizer(folder: Path, config: Any = None) -> Any:
    """The tokenizer in ``folder``; ``config`` stands in for a config.json that transformers does not know.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise CheckpointError(f"{folder}: no usable tokenizer: {_first_line(error)}; {ADVICE}") from error


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights: safetensors where there are any, else PyTorch's own format; shards in order.

    Raises:
        CheckpointError: there are none, one that the index names is missing, or one is cut short.
    """
    for single, index in (("model.safetensors", "model.safetensors.index.json"), ("pytorch_model.bin", None)):
        if (folder / single).is_file():
            return [_whole(folder / single)]
        index_file = folder / (index or "pytorch_model.bin.index.json")
        if index_file.is_file():
            names = sorted(set(json.loads(index_file.read_text())["weight_map"].values()))
            if absent := [name for name in names if not (folder / name).is_file()]:
                raise CheckpointError(f"{folder}: {absent[0]} is missing, though {index_file.name} names it; {ADVICE}")
            return [_whole(folder / name) for name in names]
    raise CheckpointError(
        f"{folder}: holds no model.safetensors, no pytorch_model.bin and no index of either; {ADVICE}"
    )


def folder_sha256(folder: Path) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of all stored tensors, in name order, one at a time.

    It is a property of the stored weights: the same for any device, dtype of use, sharding and file order.
    """
    digest = hashlib.sha256()
    for name, value in _stored_tensors(weight_files(folder)):
        value = value.contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _stored_tensors(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    if files[0].suffix != ".safetensors":
        shards = [torch.load(file, mmap=True, weights_only=True, map_location="cpu") for file in files]
        merged = {name: value for shard in shards for name, value in shard.items()}
        yield from sorted(merged.items())
        return
    where: dict[str, Path] = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            where.update(dict.fromkeys(opened.keys(), file))
    for name in sorted(where):
        with safe_open(where[name], "pt") as opened:
            yield name, opened.get_tensor(name)


def _whole(file: Path) -> Path:
    """Check a safetensors file's size against its own header: a download that broke off is found in microseconds."""
    if file.suffix != ".safetensors":
        return file
    size = file.stat().st_size
    with file.open("rb") as opened:
        prefix = opened.read(8)
        header_size = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        try:
            header = json.loads(opened.read(header_size)) if header_size <= size else None
        except ValueError:
            header = None
    if header is None:
        raise CheckpointError(f"{file}: not a whole safetensors file ({size} bytes); copy or download it again")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    if size != (expected := 8 + header_size + max(ends, default=0)):
        raise CheckpointError(f"{file}: expected {expected} bytes, found {size}; copy or download it again")
    return file


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

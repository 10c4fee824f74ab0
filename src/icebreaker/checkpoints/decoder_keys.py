"""Official speech decoder weights and settings to ours and back, strictly. Opens no file.

The official layers keep query, key, value, gate and up apart; ours are fused, so several official tensors may fill
parts of one of ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from icebreaker.errors import CheckpointError
from icebreaker.models.codec_lm import CodecLMConfig

__all__ = ["decoder_config", "decoder_from_official", "decoder_keys", "decoder_to_official"]

LAYER_KEYS = {
    "self_attn.q_proj.weight": ("qkv.weight", 0),
    "self_attn.k_proj.weight": ("qkv.weight", 1),
    "self_attn.v_proj.weight": ("qkv.weight", 2),
    "self_attn.o_proj.weight": ("out.weight", 0),
    "mlp.gate_proj.weight": ("gate_up.weight", 0),
    "mlp.up_proj.weight": ("gate_up.weight", 1),
    "mlp.down_proj.weight": ("down.weight", 0),
    "input_layernorm.weight": ("attention_norm.weight", 0),
    "post_attention_layernorm.weight": ("mlp_norm.weight", 0),
}
PARTS = {"qkv.weight": 3, "gate_up.weight": 2}
UNUSED = "rotary_emb.inv_freq"  # some transformers versions store it; we compute it


class Place(NamedTuple):
    """Where an official tensor goes: part ``part`` of ``parts`` equal ones along the first dimension of ``key``."""

    key: str
    part: int = 0
    parts: int = 1


def decoder_keys(config: CodecLMConfig) -> dict[str, Place]:
    """Official key to place in ours: 94 at the published sizes."""
    stacks = [("layers_pre_nn", "pre_nn", config.pre_blocks), ("layers", "layers", config.blocks)]
    if config.prefix:
        stacks.append(("layers_prefix", "prefix_layers", config.blocks))
    table = {
        "embedding.weight": Place("embedding.weight"),
        "norm.weight": Place("norm.weight"),
        "out_fnn.weight": Place("head.weight"),
        "out_fnn.bias": Place("head.bias"),
    }
    for theirs, ours, count in stacks:
        for index in range(count):
            for key, (name, part) in LAYER_KEYS.items():
                table[f"{theirs}.{index}.{key}"] = Place(f"{ours}.{index}.{name}", part, PARTS.get(name, 1))
    return table


def decoder_from_official(weights: Mapping[str, Tensor], config: CodecLMConfig, where: str) -> dict[str, Tensor]:
    """Our state dict from the official one; ``where`` names the file in errors.

    Raises:
        CheckpointError: a key is missing or unexpected, or a shape does not fit ``config``.
    """
    table = decoder_keys(config)
    weights = {key: value for key, value in weights.items() if not key.endswith(UNUSED)}
    missing, unexpected = sorted(table.keys() - weights.keys()), sorted(weights.keys() - table.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{where}: missing {missing[:3]}, unexpected {unexpected[:3]}; is model.json the one beside it?"
        )
    shapes = _shapes(config)
    parts: dict[str, list[Tensor]] = {}
    for key, place in table.items():
        first, *rest = shapes[place.key]
        expected, value = (first // place.parts, *rest), weights[key]
        if tuple(value.shape) != expected:
            raise CheckpointError(f"{where}: {key}: expected shape {expected}, got {tuple(value.shape)}")
        parts.setdefault(place.key, []).append(value)
    return {key: torch.cat(values).contiguous() for key, values in parts.items()}


def decoder_to_official(weights: Mapping[str, Tensor], config: CodecLMConfig) -> dict[str, Tensor]:
    """The official state dict from ours.

    Raises:
        CheckpointError: ``weights`` has other keys, for example the input layers that only small LLMs need.
    """
    table = decoder_keys(config)
    if other := sorted(weights.keys() ^ {place.key for place in table.values()}):
        raise CheckpointError(f"the official speech decoder has no place for {other[0]}, or it is missing")
    return {key: weights[place.key].chunk(place.parts)[place.part].clone() for key, place in table.items()}


def decoder_config(values: Any, llm_dim: int, where: str) -> CodecLMConfig:
    """Our configuration from the official ``model.json``: [idim, odim, options].

    Raises:
        CheckpointError: another structure, a missing option, or widths that the official decoder cannot have.
    """
    if not isinstance(values, Sequence) or len(values) != 3 or not isinstance(values[2], Mapping):
        raise CheckpointError(f"{where}: expected a list [idim, odim, options]")
    idim, odim, options = values
    try:
        hidden, blocks = options["transformer_attention_dim"], options["transformer_num_blocks"]
        heads, linear_units = options["transformer_attention_heads"], options["transformer_linear_units"]
        prefix = bool(options["kv_cache_prefix_finetune"])
    except KeyError as error:
        raise CheckpointError(f"{where}: missing option {error}") from None
    if not idim == hidden == options.get("encoder_output_dim", hidden):
        raise CheckpointError(f"{where}: idim {idim}, transformer_attention_dim {hidden} and encoder_output_dim differ")
    if llm_dim % idim:
        raise CheckpointError(f"{where}: idim {idim} does not divide the LLM's width {llm_dim}; is it another LLM?")
    return CodecLMConfig(
        codes=odim, llm_dim=llm_dim, split=llm_dim // idim, hidden=hidden,
        linear_units=linear_units, blocks=blocks, heads=heads, prefix=prefix,
    )  # fmt: skip


def _shapes(config: CodecLMConfig) -> dict[str, tuple[int, ...]]:
    width, units = config.hidden, config.linear_units
    layer = {
        "qkv.weight": (3 * width, width),
        "out.weight": (width, width),
        "gate_up.weight": (2 * units, width),
        "down.weight": (width, units),
        "attention_norm.weight": (width,),
        "mlp_norm.weight": (width,),
    }
    top = {
        "embedding.weight": (config.vocab_size, width),
        "norm.weight": (width,),
        "head.weight": (config.vocab_size, width),
        "head.bias": (config.vocab_size,),
    }
    return {
        place.key: top.get(place.key) or layer[place.key.split(".", 2)[2]] for place in decoder_keys(config).values()
    }

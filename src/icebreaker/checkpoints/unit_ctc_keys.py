"""LLaMA-Omni's speech generator and adaptor: their names and settings to ours and back. Opens no file.

Our layers hold query, key and value in one matrix, and gate and up in another, so some of theirs make one of ours.
"""

import ast
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from icebreaker.checkpoints.pt_file import rename
from icebreaker.errors import CheckpointError
from icebreaker.models.unit_ctc import UnitCTCConfig
from icebreaker.nn.llama import RopeScaling

__all__ = [
    "ADAPTOR_KEYS",
    "unit_ctc_config",
    "unit_ctc_from_official",
    "unit_ctc_to_official",
]

ADAPTOR_KEYS: dict[str, str | None] = {
    f"{layer}.{kind}": f"{layer}.{kind}" for layer in ("linear1", "linear2") for kind in ("weight", "bias")
}
FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}
SINGLE = {
    "self_attn.o_proj": "out",
    "mlp.down_proj": "down",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
}


def unit_ctc_config(values: Mapping[str, Any], where: str) -> UnitCTCConfig:
    """Our configuration from the official ``config.json``.

    Raises:
        CheckpointError: a setting is missing, does not fit, or asks for another kind of generator.
    """
    if (kind := values.get("speech_generator_type")) != "ctc":
        raise CheckpointError(f"{where}: speech_generator_type is {kind!r}, expected 'ctc'")
    try:
        layers, width, heads, linear_units = ast.literal_eval(str(values["ctc_decoder_config"]))
        scaling = values.get("rope_scaling")
        return UnitCTCConfig(
            llm_dim=values["hidden_size"],
            width=width,
            layers=layers,
            heads=heads,
            linear_units=linear_units,
            units=values["unit_vocab_size"],
            upsample=values["ctc_upsample_factor"],
            rope_theta=float(values["rope_theta"]),
            rope_scaling=None if scaling is None else _scaling(scaling),
            eps=values["rms_norm_eps"],
        )
    except KeyError as error:
        raise CheckpointError(f"{where}: missing setting {error}") from None
    except (TypeError, ValueError, SyntaxError) as error:
        raise CheckpointError(f"{where}: {error}; expected ctc_decoder_config as '(2,4096,32,11008)'") from error


def unit_ctc_from_official(weights: Mapping[str, Tensor], config: UnitCTCConfig, where: str) -> dict[str, Tensor]:
    """Our state dict from tensors named without ``speech_generator.``.

    Raises:
        CheckpointError: a name is missing or unexpected.
    """
    flat = rename(weights, {name: name for name in _names(config)}, where)
    ours = {f"{end}.{kind}": flat[f"{end}_proj.{kind}"] for end in ("input", "output") for kind in ("weight", "bias")}
    for i in range(config.layers):
        for name, parts in FUSED.items():
            ours[f"layers.{i}.{name}.weight"] = torch.cat([flat[f"layers.{i}.{part}.weight"] for part in parts])
        for theirs, name in SINGLE.items():
            ours[f"layers.{i}.{name}.weight"] = flat[f"layers.{i}.{theirs}.weight"]
    return ours


def unit_ctc_to_official(weights: Mapping[str, Tensor], config: UnitCTCConfig) -> dict[str, Tensor]:
    """The official tensors, named without ``speech_generator.``, from our state dict."""
    content = {
        f"{end}_proj.{kind}": weights[f"{end}.{kind}"] for end in ("input", "output") for kind in ("weight", "bias")
    }
    for i in range(config.layers):
        for name, parts in FUSED.items():
            pieces = weights[f"layers.{i}.{name}.weight"].chunk(len(parts))
            content |= {f"layers.{i}.{part}.weight": piece for part, piece in zip(parts, pieces, strict=True)}
        for theirs, name in SINGLE.items():
            content[f"layers.{i}.{theirs}.weight"] = weights[f"layers.{i}.{name}.weight"]
    return {name: content[name].contiguous() for name in _names(config)}


def _names(config: UnitCTCConfig) -> list[str]:
    """Official tensor names, without ``speech_generator.``."""
    ends = [f"{end}_proj.{kind}" for end in ("input", "output") for kind in ("weight", "bias")]
    each = [*(part for parts in FUSED.values() for part in parts), *SINGLE]
    return ends + [f"layers.{i}.{name}.weight" for i in range(config.layers) for name in each]


def _scaling(values: Mapping[str, Any]) -> RopeScaling:
    if values.get("rope_type", values.get("type")) != "llama3":
        raise ValueError(f"rope_scaling is of type {values.get('rope_type')!r}, expected 'llama3'")
    return RopeScaling(
        factor=float(values["factor"]),
        low=float(values["low_freq_factor"]),
        high=float(values["high_freq_factor"]),
        original=values["original_max_position_embeddings"],
    )

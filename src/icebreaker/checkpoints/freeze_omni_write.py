"""Writes the official Freeze-Omni checkpoint folder, so that the official code can run what was trained here."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from icebreaker.checkpoints.audiollm_keys import audiollm_key_table
from icebreaker.checkpoints.codec_keys import codec_to_official
from icebreaker.checkpoints.decoder_keys import decoder_to_official
from icebreaker.checkpoints.freeze_omni import CMVN, Official
from icebreaker.checkpoints.official_config import SUBSAMPLING, TRANSFORMER, AudioLLMConfig
from icebreaker.checkpoints.official_settings import server_json
from icebreaker.checkpoints.pt_file import write_pt
from icebreaker.models.codec import CodecConfig
from icebreaker.models.codec_lm import CodecLMConfig

__all__ = ["write_official"]


def write_official(folder: Path, official: Official, dtype: torch.dtype = torch.float32) -> None:
    """Write the official layout.

    Args:
        folder: where to.
        official: from ``read_official``, or put together from a bundle.
        dtype: of ``audiollm/final.pt``; its CMVN buffers are written as float32, and they win over ``global_cmvn``.

    Raises:
        CheckpointError: the official code has no place for a part of it.
    """
    model, weights = official.model, official.weights
    listening = audiollm_to_official(official, dtype)
    decoder = decoder_to_official(_part(weights, "codec_lm"), model.codec_lm)
    codec = codec_to_official(_part(weights, "codec"), model.codec)
    write_pt(folder / "audiollm" / "final.pt", listening)
    write_pt(folder / "decoder" / "final.pt", {"model": decoder})
    write_pt(folder / "codec" / "final.pt", codec)
    train = replace(official.audiollm, encoder=model.encoder, adapter=model.adapter)
    (folder / "audiollm" / "train.yaml").write_text(yaml.safe_dump(audiollm_yaml(train), allow_unicode=True))
    _write_json(folder / "audiollm" / "global_cmvn", _cmvn_statistics(weights))
    _write_json(folder / "decoder" / "model.json", decoder_json(model.codec_lm))
    _write_json(folder / "codec" / "model.json", codec_json(model.codec))
    _write_json(folder / "server.json", server_json(official.settings))


def audiollm_to_official(official: Official, dtype: torch.dtype) -> dict[str, Tensor]:
    """The official state dict of the listening half."""
    model, weights = official.model, official.weights
    table = audiollm_key_table(model.encoder, model.adapter, prompts=model.prompts.prompts > 0, cmvn=True)
    found: dict[str, Tensor] = {}
    for theirs, ours in table.items():
        if ours is not None:
            cast = weights[ours].is_floating_point() and theirs not in CMVN
            found[theirs] = weights[ours].to(dtype) if cast else weights[ours]
    return found


def audiollm_yaml(config: AudioLLMConfig) -> dict[str, Any]:
    """``config`` as the official ``train.yaml``: what inference reads, no training options."""
    encoder, adapter = config.encoder, config.adapter
    transformer = {"input_dim": encoder.subsampling_dim, "output_dim": encoder.width}
    transformer |= {theirs: getattr(encoder, ours) for theirs, (ours, _) in TRANSFORMER.items()}
    subsampling = SUBSAMPLING | {"input_dim": encoder.mel_bins, "output_dim": encoder.subsampling_dim}
    model = {
        **config.extra,
        "adpter_type": adapter.kind,
        "enc_out_dim": adapter.encoder_dim,
        "llm_embed_dim": adapter.llm_dim,
        "kernel_size": adapter.kernel_size,
        "norm": adapter.norm,
        "activation_func": adapter.activation,
        "prompt_finetune": config.prompts > 0,
        "add_prompt_before": config.prompts > 0,
        "prompt_num": config.prompts,
        "task_num": config.tasks,
        "predict_usr_state": config.turn_classes,
        "chat_template": config.chat_template,
    }
    overview = {
        "encoder-input-dim": encoder.mel_bins,
        "encoder-output-dim": encoder.width,
        "encoder-layer-config": "subsampling-transformer",
    }
    blocks = {"subsampling": _dashed(subsampling, "subsampling"), "transformer": _dashed(transformer, "transformer")}
    return {
        "input_dim": encoder.mel_bins,
        "cmvn_file": None,
        "is_json_cmvn": True,
        "encoder_conf": {"overview_conf": overview, "para_conf": blocks},
        "model_conf": model,
    }


def decoder_json(config: CodecLMConfig) -> list[Any]:
    """``config`` as the official ``decoder/model.json``."""
    options = {
        "idim": config.hidden,
        "odim": config.codes,
        "encoder_output_dim": config.hidden,
        "encoder_criterion": "ce",
        "encoder_drop_rate": config.dropout,
        "encoder_pre_norm_type": "ln",
        "encoder_upsample_rate": 9,  # read, and of no effect
        "kv_cache_prefix_finetune": int(config.prefix),
        "transformer_attention_dim": config.hidden,
        "transformer_attention_heads": config.heads,
        "transformer_dropout_rate": config.dropout,
        "transformer_linear_units": config.linear_units,
        "transformer_num_blocks": config.blocks,
    }
    return [config.hidden, config.codes, options]


def codec_json(config: CodecConfig) -> dict[str, Any]:
    """``config`` as the official ``codec/model.json``."""
    return {
        "resblock": config.resblock,
        "upsample_rates": list(config.upsample_rates),
        "upsample_kernel_sizes": list(config.upsample_kernel_sizes),
        "upsample_initial_channel": config.upsample_initial_channel,
        "resblock_kernel_sizes": list(config.resblock_kernel_sizes),
        "resblock_dilation_sizes": [list(dilations) for dilations in config.resblock_dilation_sizes],
        "n_code_groups": config.code_groups,
        "residul_layer": config.residual_layers,
        "n_codes": config.codes,
        "codebook_loss_lambda": 1.0,
        "commitment_loss_lambda": 0.25,
        "global_code_num": config.voice_codes,
        "global_feature_conv": [128, config.voice_hidden, config.voice_dim, 3, 1],
        "global_tokens": list(config.voice),
        "sampling_rate": config.sample_rate,
    }


def _part(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


def _dashed(options: Mapping[str, Any], component: str) -> dict[str, Any]:
    return {f"{component}-{name.replace('_', '-')}": value for name, value in options.items()}


def _cmvn_statistics(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Statistics of one frame that give the mean and variance back."""
    mean, variance = weights["encoder.mean"].double(), weights["encoder.istd"].double() ** -2
    return {"mean_stat": mean.tolist(), "var_stat": (variance + mean**2).tolist(), "frame_num": 1}


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")

"""The configuration files of an official Freeze-Omni checkpoint. Opens no weights.

    audiollm/train.yaml  audiollm/global_cmvn  decoder/model.json  codec/model.json  server.json

The official loader looks options up by name and ignores those it does not know. So do we, with a warning: a released
file holds many that only training reads, but a misspelt one would silently become a default.
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from torch import Tensor

from icebreaker.config import from_mapping
from icebreaker.errors import CheckpointError, ConfigError
from icebreaker.models.adapter import AdapterConfig
from icebreaker.models.encoder import EncoderConfig

__all__ = [
    "SUBSAMPLING",
    "TRANSFORMER",
    "AudioLLMConfig",
    "encoder_config",
    "read_audiollm_config",
    "read_cmvn",
    "read_json",
]

logger = logging.getLogger(__name__)
T = TypeVar("T")
VARIANCE_FLOOR = 1e-20
# Encoder options: the official name (dashes as underscores, after the component's name) and default, and ours.
TRANSFORMER = {
    "attention_dim": ("width", 256),
    "attention_heads": ("heads", 4),
    "linear_units": ("feed_forward_dim", 1024),
    "num_blocks": ("layers", 6),
    "dropout_rate": ("dropout", 0.1),
    "attention_dropout_rate": ("attention_dropout", 0.0),
    "positional_dropout_rate": ("positional_dropout", 0.1),
    "input_layer": ("input_layer", "linear"),
    "pos_enc_class": ("position_encoding", "abs-enc"),
    "normalize_before": ("normalize_before", True),
    "concat_after": ("concat_after", False),
    "positionwise_layer_type": ("feed_forward", "linear"),
    "positionwise_conv_kernel_size": ("feed_forward_kernel_size", 1),
    "chunk_size": ("chunk_size", -1),
    "left_chunks": ("left_chunks", -1),
    "dynamic_chunks": ("dynamic_chunks", False),
}
DIMENSIONS = {"input_dim": 256, "output_dim": 4}
SUBSAMPLING = {"input_dim": 256, "output_dim": 256, "rate": 4, "dropout_rate": 0.1}
MODEL_CONF_UNUSED = {
    "llm_path", "freeze_llm", "add_audio_bos_eos", "prefix_finetune", "prefix_num", "llm_head_num",
    "num_key_value_heads", "task_type", "freeze_encoder", "freeze_adpter", "chunk_size", "activation_func",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AudioLLMConfig:
    """What ``train.yaml`` says about the listening half; defaults are those of the official constructor."""

    encoder: EncoderConfig
    adapter: AdapterConfig
    prompts: int = 5  # 0: the official ``prompt_finetune: false``
    tasks: int = 10
    turn_classes: int = 4
    chat_template: str | None = None
    is_json_cmvn: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)  # model_conf entries of no meaning here


def read_audiollm_config(path: Path) -> AudioLLMConfig:
    """Read ``audiollm/train.yaml``.

    Raises:
        CheckpointError: it is missing, not YAML, or describes something that is not Freeze-Omni.
    """
    values = _mapping(_read_yaml(path), str(path))
    encoder = encoder_config(_section(values, "encoder_conf", path), str(path))
    options = _section(values, "model_conf", path)
    kind = options.get("adpter_type", "cnn")
    adapter = {
        "kind": kind,
        "encoder_dim": options.get("enc_out_dim", 512),
        "llm_dim": options.get("llm_embed_dim", 4096),
        "kernel_size": options.get("kernel_size", 3),
        "norm": options.get("norm", "batch"),
        "activation": "gelu" if options.get("activation_func", "relu") == "gelu" else "relu",
    }
    if not options.get("predict_usr_state"):
        raise CheckpointError(f"{path}: predict_usr_state is 0: this checkpoint has no turn head and cannot converse")
    known = {"adpter_type", "enc_out_dim", "llm_embed_dim", "kernel_size", "norm", "prompt_finetune", "prompt_num"}
    known |= {"add_prompt_before", "task_num", "chat_template", "predict_usr_state", *MODEL_CONF_UNUSED}
    _warn_unknown(options.keys() - known, "model_conf", str(path))
    used = options.get("prompt_finetune", False) and options.get("add_prompt_before", False)
    config = AudioLLMConfig(
        encoder=encoder,
        adapter=_build(AdapterConfig, adapter, f"{path}: model_conf"),
        prompts=options.get("prompt_num", 5) if used else 0,
        tasks=options.get("task_num", 10),
        turn_classes=options["predict_usr_state"],
        chat_template=options.get("chat_template"),
        is_json_cmvn=values.get("is_json_cmvn", False),
        extra={name: options[name] for name in sorted(MODEL_CONF_UNUSED & options.keys() - {"activation_func"})},
    )
    if config.adapter.encoder_dim != encoder.width:
        raise CheckpointError(
            f"{path}: enc_out_dim {config.adapter.encoder_dim} is not the encoder's width {encoder.width}"
        )
    return config


def encoder_config(encoder_conf: Mapping[str, Any], where: str) -> EncoderConfig:
    """Our configuration from the official ``encoder_conf``; streaming positions are the official ones.

    Raises:
        CheckpointError: other components than subsampling and transformer, or dimensions that do not meet.
    """
    overview = _mapping(encoder_conf.get("overview_conf"), f"{where}: overview_conf")
    components = str(overview.get("encoder-layer-config", "")).split("-")
    if [name.split("_")[0] for name in components] != ["subsampling", "transformer"]:
        raise CheckpointError(
            f"{where}: expected encoder-layer-config subsampling-transformer, got {'-'.join(components)!r}"
        )
    blocks = _mapping(encoder_conf.get("para_conf"), f"{where}: para_conf")
    reading = _options(blocks.get(components[0]), "subsampling", SUBSAMPLING, where)
    defaults = DIMENSIONS | {name: default for name, (_, default) in TRANSFORMER.items()}
    transformer = _options(blocks.get(components[1]), "transformer", defaults, where)
    if reading["rate"] != 4:
        raise CheckpointError(f"{where}: subsampling-rate must be 4, got {reading['rate']}")
    if reading["output_dim"] != transformer["input_dim"]:
        raise CheckpointError(
            f"{where}: subsampling-output-dim {reading['output_dim']} does not meet "
            f"transformer-input-dim {transformer['input_dim']}"
        )
    ours = {name: transformer[theirs] for theirs, (name, _) in TRANSFORMER.items()}
    sizes = {"mel_bins": reading["input_dim"], "subsampling_dim": reading["output_dim"], "positions": "official"}
    return _build(EncoderConfig, ours | sizes, f"{where}: encoder_conf")


def read_cmvn(path: Path, is_json: bool = True) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation [F] from ``global_cmvn``, computed in float64.

    Raises:
        CheckpointError: the file is missing or holds no statistics.
    """
    try:
        if is_json:
            values = read_json(path)
            sums, squares, frames = values["mean_stat"], values["var_stat"], float(values["frame_num"])
        else:
            numbers = [float(word) for word in path.read_text().replace("[", " ").replace("]", " ").split()]
            half = len(numbers) // 2
            sums, squares, frames = numbers[: half - 1], numbers[half:-1], numbers[half - 1]
        if not sums or len(sums) != len(squares) or frames <= 0:
            raise ValueError(f"{len(sums)} sums, {len(squares)} sums of squares, {frames} frames")
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        kind = "JSON mean_stat, var_stat, frame_num" if is_json else "Kaldi text statistics"
        raise CheckpointError(f"{path}: expected {kind}: {error}") from error
    means = [value / frames for value in sums]
    variances = [
        max(square / frames - mean * mean, VARIANCE_FLOOR) for square, mean in zip(squares, means, strict=True)
    ]
    return torch.tensor(means), torch.tensor([1.0 / math.sqrt(variance) for variance in variances])


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a whole Freeze-Omni checkpoint folder?") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from error


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a whole Freeze-Omni checkpoint folder?") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: not readable as YAML: {str(error).splitlines()[0]}") from error


def _options(values: Any, component: str, defaults: Mapping[str, Any], where: str) -> dict[str, Any]:
    given = {
        str(name).replace("-", "_").removeprefix(f"{component}_"): value
        for name, value in _mapping(values, f"{where}: para_conf: {component}").items()
    }
    _warn_unknown(given.keys() - defaults.keys(), component, where)
    return {name: given.get(name, default) for name, default in defaults.items()}


def _section(values: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    if name not in values:
        raise CheckpointError(f"{path}: no {name}; this is not a Freeze-Omni train.yaml")
    return _mapping(values[name], f"{path}: {name}")


def _mapping(values: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{where}: expected named values, got {type(values).__name__}")
    return values


def _warn_unknown(names: set[str], what: str, where: str) -> None:
    if names:
        logger.warning("%s: %s options that mean nothing here: %s", where, what, ", ".join(sorted(names)))


def _build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    try:
        return from_mapping(cls, values, where)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error

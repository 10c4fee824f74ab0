"""fairseq's code-HiFi-GAN files to our unit vocoder and back, strictly. Opens no file.

{"generator": {dict.weight, dur_predictor.*, conv_pre.*, ups.*, resblocks.*, conv_post.*}}, weight norm split
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from icebreaker.checkpoints.codec_keys import folded, generator_keys, generator_settings, split
from icebreaker.checkpoints.pt_file import rename, tensors
from icebreaker.errors import CheckpointError
from icebreaker.models.unit_vocoder import UnitVocoderConfig

__all__ = ["unit_vocoder_config", "unit_vocoder_from_official", "unit_vocoder_keys", "unit_vocoder_to_official"]

PART = "generator"
DURATION = {
    "conv1.0": "conv1", "ln1": "norm1", "conv2.0": "conv2", "ln2": "norm2", "proj": "project",
}  # fmt: skip
OTHER_VOCODERS = {
    "multispkr": "several speakers",
    "embedder_params": "a speaker embedder",
    "f0_quant_num_bin": "a pitch track",
    "f0": "a pitch track",
}


def unit_vocoder_keys(config: UnitVocoderConfig) -> dict[str, str | None]:
    """Official key, weight norm folded, to our key."""
    table: dict[str, str | None] = {"dict.weight": "embedding.weight"}
    table |= {
        f"dur_predictor.{theirs}.{kind}": f"duration.{ours}.{kind}"
        for theirs, ours in DURATION.items()
        for kind in ("weight", "bias")
    }
    return table | {theirs: f"generator.{ours}" for theirs, ours in generator_keys(config)}


def unit_vocoder_from_official(content: Mapping[str, Any], config: UnitVocoderConfig, where: str) -> dict[str, Tensor]:
    """Our state dict from the official file's content; weight norm is folded.

    Raises:
        CheckpointError: a key is missing or unexpected.
    """
    if not isinstance(content.get(PART), Mapping):
        raise CheckpointError(
            f"{where}: expected the state dict {PART!r} of a unit vocoder, found {', '.join(sorted(content)[:3])}"
        )
    weights = dict(folded(tensors(content[PART], where), where))
    return rename(weights, unit_vocoder_keys(config), where)


def unit_vocoder_to_official(weights: Mapping[str, Tensor], config: UnitVocoderConfig) -> dict[str, dict[str, Tensor]]:
    """The official file's content from our state dict.

    Raises:
        CheckpointError: ``config`` or ``weights`` hold what the official vocoder has no place for.
    """
    if config.frame_dilations or config.resblock != "1":
        raise CheckpointError("the official vocoder has no block at frame rate, and residual blocks of kind 1")
    table = {theirs: ours for theirs, ours in unit_vocoder_keys(config).items() if ours is not None}
    if other := sorted(set(table.values()) ^ weights.keys()):
        raise CheckpointError(f"the official vocoder has no place for {other[0]}, or it is missing")
    content: dict[str, Tensor] = {}
    for theirs, ours in table.items():
        plain = theirs.startswith(("dict.", "dur_predictor.")) or theirs.endswith(".bias")
        content |= {theirs: weights[ours].clone()} if plain else split(theirs, weights[ours])
    return {PART: content}


def unit_vocoder_config(values: Mapping[str, Any], where: str) -> UnitVocoderConfig:
    """Our configuration from the official ``config.json``; its training-only settings are passed over.

    Raises:
        CheckpointError: a setting is missing, does not fit, or asks for another kind of vocoder.
    """
    for setting, meaning in OTHER_VOCODERS.items():
        if values.get(setting):
            raise CheckpointError(
                f"{where}: {setting} asks for {meaning}; expected a single-speaker unit vocoder with a duration "
                "predictor, such as LLaMA-Omni's"
            )
    try:
        durations = values["dur_predictor_params"]
        if (
            values["model_in_dim"] != values["embedding_dim"]
            or durations["encoder_embed_dim"] != values["embedding_dim"]
        ):
            raise CheckpointError(f"{where}: model_in_dim and encoder_embed_dim must equal embedding_dim")
        config = UnitVocoderConfig(
            units=values["num_embeddings"],
            **generator_settings(values),
            latent_dim=values["embedding_dim"],
            duration_hidden=durations["var_pred_hidden_dim"],
            duration_kernel_size=durations["var_pred_kernel_size"],
        )
    except KeyError as error:
        raise CheckpointError(f"{where}: missing setting {error}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}") from error
    if values.get("code_hop_size", config.hop_length) != config.hop_length:
        raise CheckpointError(
            f"{where}: code_hop_size is {values['code_hop_size']}, but upsample_rates multiply to {config.hop_length}"
        )
    return config

"""Official codec weights and settings to ours and back, strictly. Opens no file.

The official weights keep each convolution's length and direction apart (weight norm); ours are folded, so a pair of
official tensors makes one of ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from icebreaker.errors import CheckpointError
from icebreaker.models.codec import CodecConfig, GeneratorConfig

__all__ = [
    "codec_config",
    "codec_from_official",
    "codec_keys",
    "codec_to_official",
    "folded",
    "generator_keys",
    "generator_settings",
    "split",
]

PARTS = ("generator", "encoder", "quantizer")  # the three state dicts of the official file
LENGTH, DIRECTION = ".weight_g", ".weight_v"
UNUSED = ("linear.0.weight", "linear.0.bias")  # in the official encoder, never read
RESIDUAL_BOOKS = ("", "2", "3", "4")  # name endings of the residual layers' codebooks


def codec_keys(config: CodecConfig) -> dict[str, dict[str, str | None]]:
    """Per official state dict: official key, or its stem where weight norm splits it, to our key; None: unused."""
    return {
        "generator": {theirs: f"generator.{ours}" for theirs, ours in generator_keys(config)},
        "encoder": {
            **{theirs: f"encoder.{ours}" for theirs, ours in _encoder(config)},
            **dict.fromkeys(UNUSED),
        },
        "quantizer": {theirs: f"quantizer.{ours}" for theirs, ours in _quantizer(config)},
    }


def codec_from_official(content: Mapping[str, Any], config: CodecConfig, where: str) -> dict[str, Tensor]:
    """Our state dict from the official file's content; weight norm is folded.

    Raises:
        CheckpointError: a part or a key is missing or unexpected; names ``where`` and the key.
    """
    if missing := [part for part in PARTS if not isinstance(content.get(part), Mapping)]:
        raise CheckpointError(f"{where}: expected the state dicts {', '.join(PARTS)}; {missing[0]} is missing")
    ours: dict[str, Tensor] = {}
    for part, table in codec_keys(config).items():
        weights = dict(folded(content[part], f"{where}: {part}"))
        unused = {key for key, name in table.items() if name is None}
        lacking, unexpected = sorted(table.keys() - weights.keys() - unused), sorted(weights.keys() - table.keys())
        if lacking or unexpected:
            raise CheckpointError(
                f"{where}: {part}: missing {lacking[:3]}, unexpected {unexpected[:3]}; is model.json the one beside it?"
            )
        ours |= {name: weights[key] for key, name in table.items() if name is not None}
    return ours


def codec_to_official(weights: Mapping[str, Tensor], config: CodecConfig) -> dict[str, dict[str, Tensor]]:
    """The official file's content from our state dict: lengths are the weights' norms, directions the weights.

    Raises:
        CheckpointError: ``config`` or ``weights`` hold what the official codec has no place for.
    """
    if config.encoder != "waveform" or config.frame_dilations or not config.voice_codes:
        raise CheckpointError("the official codec has a waveform encoder, voice codes, and no block at code rate")
    tables = codec_keys(config)
    names = {name for table in tables.values() for name in table.values() if name is not None}
    if other := sorted(names ^ weights.keys()):
        raise CheckpointError(f"the official codec has no place for {other[0]}, or it is missing")
    content: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for part, table in tables.items():
        for theirs, ours in table.items():
            if ours is None:
                content[part][theirs] = _unused(theirs, config)
            elif _weight_normed(part, theirs):
                content[part] |= split(theirs, weights[ours])
            else:
                content[part][theirs] = weights[ours].clone()
    return content


def codec_config(values: Mapping[str, Any], where: str) -> CodecConfig:
    """Our configuration from the official ``model.json``; its training-only settings are passed over.

    Raises:
        CheckpointError: a setting is missing or does not fit.
    """
    try:
        width, hidden, voice_dim, kernel_size, stride = values["global_feature_conv"]
        if (kernel_size, stride) != (3, 1) or width != voice_dim:
            raise CheckpointError(f"{where}: global_feature_conv: expected [w, hidden, w, 3, 1]")
        return CodecConfig(
            **generator_settings(values),
            resblock=values["resblock"],
            codes=values["n_codes"],
            code_groups=values["n_code_groups"],
            residual_layers=values["residul_layer"],
            voice_codes=values["global_code_num"],
            voice_dim=voice_dim,
            voice_hidden=hidden,
            voice=tuple(values["global_tokens"]),
        )
    except KeyError as error:
        raise CheckpointError(f"{where}: missing setting {error}") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: {error}") from error


def generator_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What every official HiFi-GAN configuration says about its generator, by the names of ``GeneratorConfig``.

    Raises:
        KeyError: a setting is missing.
    """
    return {
        "sample_rate": values["sampling_rate"],
        "upsample_rates": tuple(values["upsample_rates"]),
        "upsample_kernel_sizes": tuple(values["upsample_kernel_sizes"]),
        "upsample_initial_channel": values["upsample_initial_channel"],
        "resblock_kernel_sizes": tuple(values["resblock_kernel_sizes"]),
        "resblock_dilation_sizes": tuple(tuple(each) for each in values["resblock_dilation_sizes"]),
    }


def _conv(theirs: str, ours: str, *, bias: bool = True) -> Iterator[tuple[str, str]]:
    yield f"{theirs}.weight", f"{ours}.weight"
    if bias:
        yield f"{theirs}.bias", f"{ours}.bias"


def _blocks(config: GeneratorConfig, dilations: Sequence[Sequence[int]]) -> Iterator[tuple[str, str]]:
    kinds = ("convs1", "convs2") if config.resblock == "1" else ("convs",)
    for index in range(len(config.upsample_rates) * len(dilations)):
        for kind in kinds:
            for i in range(len(dilations[index % len(dilations)])):
                yield from _conv(f"resblocks.{index}.{kind}.{i}", f"blocks.{index}.{kind}.{i}")


def generator_keys(config: GeneratorConfig) -> Iterator[tuple[str, str]]:
    """Official HiFi-GAN key (weight norm folded) and our key, for each weight of a generator."""
    yield from _conv("conv_pre", "conv_pre")
    yield from _conv("conv_post", "conv_post")
    for stage in range(len(config.upsample_rates)):
        yield from _conv(f"ups.{stage}", f"ups.{stage}")
    yield from _blocks(config, config.resblock_dilation_sizes)


def _encoder(config: CodecConfig) -> Iterator[tuple[str, str]]:
    yield from _conv("conv_pre", "conv_pre")
    yield from _conv("conv_post", "conv_post")
    for stage in range(len(config.upsample_rates)):
        yield from _conv(f"ups.{stage}", f"downs.{stage}")
    yield from _blocks(config, config.resblock_dilation_sizes[::-1])
    for index in range(len(config.upsample_rates) * len(config.resblock_kernel_sizes)):
        yield from _conv(f"normalize.{index}", f"norms.{index}")
    if config.voice_codes:
        for i in range(3):
            yield from _conv(f"GlobalTokenEncoder.conv.{2 * i}", f"voice.convs.{i}", bias=False)
        yield from _conv("GlobalTokenEncoder.fn.0", "voice.linear")
        yield from _conv("GlobalTokenEncoder.fn.2", "voice.norm")
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            yield f"GlobalTokenEncoder.fn.2.{name}", f"voice.norm.{name}"


def _quantizer(config: CodecConfig) -> Iterator[tuple[str, str]]:
    for index in range(config.codebooks):
        layer, group = divmod(index, config.code_groups)
        yield f"quantizer_modules{RESIDUAL_BOOKS[layer]}.{group}.embedding.weight", f"books.{index}.weight"
    for index in range(config.voice_codes):
        yield f"quantizer_modules_globaltokens.{index}.embedding.weight", f"voice_books.{index}.weight"


def _weight_normed(part: str, key: str) -> bool:
    if not key.endswith(".weight"):
        return False
    return key.startswith(("ups.", "resblocks.", "conv_pre.")) or (part, key) == ("generator", "conv_post.weight")


def split(key: str, weight: Tensor) -> dict[str, Tensor]:
    """Length and direction of a ``weight`` under the names that weight norm gives ``key``."""
    stem = key.removesuffix(".weight")
    return {stem + LENGTH: _norm(weight), stem + DIRECTION: weight.clone()}


def folded(weights: Mapping[str, Any], where: str) -> Iterator[tuple[str, Tensor]]:
    """Pairs of length and direction become one weight; all else stays."""
    for key, value in weights.items():
        if key.endswith(DIRECTION):
            stem = key.removesuffix(DIRECTION)
            if stem + LENGTH not in weights:
                raise CheckpointError(f"{where}: {key} without {stem + LENGTH}")
            direction = value.float().contiguous()
            yield f"{stem}.weight", direction * (weights[stem + LENGTH].float() / _norm(direction))
        elif key.endswith(LENGTH):
            if key.removesuffix(LENGTH) + DIRECTION not in weights:
                raise CheckpointError(f"{where}: {key} without {key.removesuffix(LENGTH) + DIRECTION}")
        else:
            yield key, value


def _norm(weight: Tensor) -> Tensor:
    """Length of each slice along the first dimension, [N, 1, 1]."""
    length: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
    return length


def _unused(key: str, config: CodecConfig) -> Tensor:
    return torch.zeros(config.voice_dim, config.voice_dim) if key.endswith("weight") else torch.zeros(config.voice_dim)

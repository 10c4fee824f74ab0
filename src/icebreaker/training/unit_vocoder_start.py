"""A unit vocoder that begins as the codec of the same voice (ours): it has learnt to sound, not yet what units mean.

Both have the same generator. A codec gives 40 latents a second and the vocoder takes 50, so only the last stages mean
the same from the start; the first ones adapt. An embedding begins as the mean latent of the sound its unit stands for.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.config import from_mapping
from icebreaker.errors import ConfigError
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.unit_vocoder import UnitVocoder
from icebreaker.training.stage_files import load_into, stage_config

__all__ = ["load_codec", "start_as_codec"]

logger = logging.getLogger(__name__)
SAME = (
    "sample_rate", "resblock", "upsample_initial_channel", "resblock_kernel_sizes", "resblock_dilation_sizes",
    "frame_dilations", "latent_dim",
)  # fmt: skip


def load_codec(folder: Path) -> Codec:
    """The codec that stage ``codec`` left in ``folder``."""
    codec = Codec(from_mapping(CodecConfig, stage_config(folder)["model"], f"{folder}/config.json: model"))
    load_into(codec, folder, "codec")
    return codec.eval()


@torch.no_grad()
def start_as_codec(vocoder: UnitVocoder, codec: Codec, recordings: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Give ``vocoder`` the generator of ``codec``, and embeddings after ``recordings``.

    Args:
        vocoder: without weight norm.
        codec: of one voice, that of the recordings.
        recordings: units, one a frame, [1, T] and waveform [1, T * hop_length]; a few hundred will do.

    Raises:
        ConfigError: the two generators are not of one shape.
    """
    check_shape(vocoder, codec)
    mine, theirs = vocoder.generator.state_dict(), codec.generator.state_dict()
    vocoder.generator.load_state_dict({name: resampled(theirs[name], value.shape[-1]) for name, value in mine.items()})
    vocoder.embedding.weight.copy_(mean_latents(codec, recordings, vocoder.config.units))


def check_shape(vocoder: UnitVocoder, codec: Codec) -> None:
    """Raise ConfigError unless all but the upsampling rates agree."""
    for name in SAME:
        if getattr(vocoder.config, name) != getattr(codec.config, name):
            raise ConfigError(
                f"model.{name} is {getattr(vocoder.config, name)}, the codec to begin as has "
                f"{getattr(codec.config, name)}; set it so, or leave start_as out"
            )
    if len(vocoder.config.upsample_rates) != len(codec.config.upsample_rates) or codec.config.voice_codes:
        raise ConfigError(
            "a vocoder can begin as a codec of one voice (voice_codes = 0) with as many upsampling stages"
        )


def resampled(weight: Tensor, size: int) -> Tensor:
    """A weight whose last axis, if it is a kernel's of another length, is cut around its middle to ``size`` taps."""
    if weight.shape[-1] == size:
        return weight
    taps = weight.flatten(0, -2)[None]
    # Samples at the output's rate, which the kernel is of, at the same distances from its middle.
    grid = torch.arange(size, device=weight.device) + (weight.shape[-1] - size) / 2
    below = grid.floor().long().clamp(0, weight.shape[-1] - 1)
    above = (below + 1).clamp_max(weight.shape[-1] - 1)
    share = (grid - below).clamp(0, 1).to(weight.dtype)
    found: Tensor = taps[..., below] * (1 - share) + taps[..., above] * share
    return found[0].reshape(*weight.shape[:-1], size)


def mean_latents(codec: Codec, recordings: Iterable[tuple[Tensor, Tensor]], units: int) -> Tensor:
    """[K, D]: what ``codec`` makes of the sound of each unit, on average; of all sound for units that never occur."""
    sums, counts = torch.zeros(units, codec.config.latent_dim), torch.zeros(units)
    for frames, waveform in recordings:
        latents, _ = codec.encoder(waveform)
        at_frames = F.interpolate(latents, size=frames.shape[1], mode="linear")[0].mT  # [T, D]
        sums.index_add_(0, frames[0], at_frames)
        counts.index_add_(0, frames[0], torch.ones(frames.shape[1]))
    logger.info("%d of %d units occur in the recordings to begin with", int((counts > 0).sum()), units)
    everything = sums.sum(dim=0) / counts.sum()
    return torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], everything)

"""Deepens a trained encoder: copies of its layers that begin as identities. Knows nothing of losses or data."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from icebreaker.errors import ConfigError
from icebreaker.models.encoder import Encoder

__all__ = ["doubled"]


@torch.no_grad()
def doubled(encoder: Encoder, layers: Sequence[int]) -> Encoder:
    """A deeper ``encoder`` that says what it said: a copy of each of ``layers`` (from 1) goes on top of it.

    Both sums of a copy add zero at first, as the last weight before each is zero (block expansion, arXiv:2401.02415).

    Raises:
        ConfigError: there is no such layer, or the layers are not plain residual sums.
    """
    if not layers:
        return encoder
    config = encoder.config
    if not config.normalize_before or config.concat_after:
        raise ConfigError("doubled_layers: expected an encoder with normalize_before and without concat_after")
    if wrong := sorted(set(layers) - set(range(1, config.layers + 1))):
        raise ConfigError(f"doubled_layers: expected layers from 1 to {config.layers}, got {wrong}")
    deeper = copy.deepcopy(encoder)
    deeper.config = replace(config, layers=config.layers + len(layers))
    deeper.layers = nn.ModuleList()
    for number, layer in enumerate(encoder.layers, 1):
        deeper.layers.append(copy.deepcopy(layer))
        for _ in range(list(layers).count(number)):
            extra = copy.deepcopy(layer)
            for last in (extra.attention.out, extra.feed_forward.down):  # type: ignore[union-attr]
                last.weight.zero_()  # type: ignore[union-attr,operator]
                last.bias.zero_()  # type: ignore[union-attr,operator]
            deeper.layers.append(extra)
    return deeper

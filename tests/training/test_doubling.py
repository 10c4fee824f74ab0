"""A deeper encoder that begins as the one it comes from."""

import pytest
import torch

from icebreaker.errors import ConfigError
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.training.doubling import doubled

SMALL = {
    "mel_bins": 80, "subsampling_dim": 8, "width": 16, "heads": 2, "feed_forward_dim": 24, "layers": 3,
    "left_chunks": 2, "dropout": 0.0, "positional_dropout": 0.0,
}  # fmt: skip


def encoder(**changes: object) -> Encoder:
    torch.manual_seed(1)
    return Encoder(EncoderConfig(**{**SMALL, **changes}))  # type: ignore[arg-type]


def test_it_says_what_it_said_and_all_of_it_learns() -> None:
    small = encoder()
    deep = doubled(small, [1, 3])
    assert deep.config.layers == len(deep.layers) == 5
    assert len(small.layers) == 3
    fbank = torch.randn(2, 64, 80)
    lengths = torch.tensor([64, 48])
    said, before = deep.encode(fbank, lengths)[0], small.encode(fbank, lengths)[0]
    torch.testing.assert_close(said, before)
    streamed, _ = deep(fbank, deep.initial_state(2))
    torch.testing.assert_close(streamed, small(fbank, small.initial_state(2))[0])
    said.square().sum().backward()
    for copy in (deep.layers[1], deep.layers[4]):
        assert copy.attention.out.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
        assert copy.feed_forward.down.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_nothing_to_double_and_what_cannot_be() -> None:
    small = encoder()
    assert doubled(small, []) is small
    with pytest.raises(ConfigError, match=r"layers from 1 to 3, got \[0, 4\]"):
        doubled(small, [4, 1, 0])
    for wrong in ({"normalize_before": False}, {"concat_after": True}):
        with pytest.raises(ConfigError, match="expected an encoder with normalize_before"):
            doubled(encoder(**wrong), [1])

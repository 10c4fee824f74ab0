"""Official codec files in and out, strictly."""

import json

import pytest
import torch
from codec_golden import GOLDEN, official_codec
from torch import Tensor

from icebreaker.checkpoints.codec_keys import codec_config, codec_from_official, codec_to_official
from icebreaker.errors import CheckpointError
from icebreaker.models.codec import Codec

FOLDER = GOLDEN / "checkpoints" / "codec"
Content = dict[str, dict[str, Tensor]]


@pytest.fixture
def content() -> Content:
    return torch.load(FOLDER / "final.pt", weights_only=True)


def test_published_sizes_have_the_published_keys() -> None:
    official = codec_to_official(official_codec("official-shape").state_dict(), official_codec("official-shape").config)
    assert [len(official[part]) for part in ("generator", "encoder", "quantizer")] == [234, 269, 9]
    lengths = sum(value.numel() for key, value in official["generator"].items() if key.endswith("weight_g"))
    assert sum(value.numel() for value in official["generator"].values()) - lengths == 15_369_857
    assert sum(value.numel() for value in official["quantizer"].values()) == 655_360


def test_round_trip_keeps_names_shapes_and_function(content: Content) -> None:
    codec = official_codec()
    back = codec_to_official(codec.state_dict(), codec.config)
    for part, weights in content.items():
        assert {k: v.shape for k, v in back[part].items()} == {k: v.shape for k, v in weights.items()}
    again = Codec(codec.config).eval()
    again.load_state_dict(codec_from_official(back, codec.config, "again"))
    codes = torch.randint(64, (1, 4))
    with torch.no_grad():
        torch.testing.assert_close(again.decode(codes), codec.decode(codes), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("part", ["generator", "encoder", "quantizer"])
def test_every_key_is_asked_for_and_no_other_is_taken(part: str, content: Content) -> None:
    config = official_codec().config
    for key in list(content[part])[::7]:
        if key.startswith("linear.0"):
            continue
        lacking = {**content, part: {k: v for k, v in content[part].items() if k != key}}
        with pytest.raises(CheckpointError, match=part):
            codec_from_official(lacking, config, "final.pt")
    with pytest.raises(CheckpointError, match=r"unexpected \['surprise'\]"):
        codec_from_official({**content, part: {**content[part], "surprise": torch.zeros(1)}}, config, "final.pt")
    with pytest.raises(CheckpointError, match=f"{part} is missing"):
        codec_from_official({k: v for k, v in content.items() if k != part}, config, "final.pt")


def test_settings_are_checked() -> None:
    values = json.loads((FOLDER / "model.json").read_text())
    assert codec_config(values, "model.json") == official_codec().config
    with pytest.raises(CheckpointError, match=r"model.json: missing setting 'n_codes'"):
        codec_config({k: v for k, v in values.items() if k != "n_codes"}, "model.json")
    with pytest.raises(CheckpointError, match="3 codes, voice_codes is 4"):
        codec_config({**values, "global_tokens": [1, 2, 3]}, "model.json")

import json

import pytest
import torch
from omni_golden import VOCODER

from icebreaker.checkpoints.pt_file import read_pt
from icebreaker.checkpoints.unit_vocoder_keys import (
    unit_vocoder_config,
    unit_vocoder_from_official,
    unit_vocoder_to_official,
)
from icebreaker.errors import CheckpointError

VALUES = json.loads((VOCODER / "config.json").read_text())


def test_official_weights_come_back_as_they_were() -> None:
    config, content = unit_vocoder_config(VALUES, "config.json"), read_pt(VOCODER / "g_00500000")
    ours = unit_vocoder_from_official(content, config, "g")
    back = unit_vocoder_to_official(ours, config)["generator"]
    assert back.keys() == content["generator"].keys()
    again = unit_vocoder_from_official({"generator": back}, config, "again")
    for name, value in ours.items():
        torch.testing.assert_close(again[name], value)
    for name in ("dict.weight", "dur_predictor.proj.bias", "ups.0.bias"):
        assert torch.equal(back[name], content["generator"][name])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"multispkr": "single"}, "asks for several speakers"),
        ({"f0": True}, "asks for a pitch track"),
        ({"model_in_dim": 32}, "must equal embedding_dim"),
        ({"code_hop_size": 256}, "code_hop_size is 256, but upsample_rates multiply to 320"),
        ({"upsample_rates": [5, 4]}, "differ in length"),
    ],
)
def test_another_kind_of_vocoder_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        unit_vocoder_config(VALUES | values, "config.json")


def test_missing_and_unexpected_names_are_errors() -> None:
    config, content = unit_vocoder_config(VALUES, "config.json"), dict(read_pt(VOCODER / "g_00500000")["generator"])
    with pytest.raises(CheckpointError, match="expected the state dict 'generator'"):
        unit_vocoder_from_official({"model": content}, config, "g")
    del content["dict.weight"]
    with pytest.raises(CheckpointError, match=r"missing dict.weight"):
        unit_vocoder_from_official({"generator": content}, config, "g")

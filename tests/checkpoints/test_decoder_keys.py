import json
from pathlib import Path

import pytest
import torch

from icebreaker.checkpoints.decoder_keys import (
    decoder_config,
    decoder_from_official,
    decoder_keys,
    decoder_to_official,
)
from icebreaker.errors import CheckpointError
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny" / "checkpoints" / "decoder"
CONFIG = CodecLMConfig(codes=64, llm_dim=128, hidden=32, linear_units=80, heads=4)


def settings() -> list[object]:
    return list(json.loads((GOLDEN / "model.json").read_text()))


def official() -> dict[str, torch.Tensor]:
    return dict(torch.load(GOLDEN / "final.pt", weights_only=True)["model"])


def test_settings() -> None:
    assert decoder_config(settings(), 128, "model.json") == CONFIG


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transformer_attention_dim": 48}, "idim 32, transformer_attention_dim 48"),
        ({"transformer_num_blocks": None}, "missing option 'transformer_num_blocks'"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, object], message: str) -> None:
    idim, odim, options = settings()
    assert isinstance(options, dict)
    changed = {key: value for key, value in {**options, **change}.items() if value is not None or key not in change}
    with pytest.raises(CheckpointError, match=message):
        decoder_config([idim, odim, changed], 128, "model.json")


def test_settings_of_another_llm() -> None:
    with pytest.raises(CheckpointError, match="does not divide the LLM's width 100"):
        decoder_config(settings(), 100, "model.json")
    with pytest.raises(CheckpointError, match="expected a list"):
        decoder_config({}, 128, "model.json")


def test_there_and_back() -> None:
    assert len(decoder_keys(CodecLMConfig())) == 94
    weights = official()
    ours = decoder_from_official(weights, CONFIG, "final.pt")
    assert ours.keys() == CodecLM(CONFIG).state_dict().keys()
    assert ours["layers.1.qkv.weight"][32:64].equal(weights["layers.1.self_attn.k_proj.weight"])
    assert ours["pre_nn.0.gate_up.weight"][80:].equal(weights["layers_pre_nn.0.mlp.up_proj.weight"])
    back = decoder_to_official(ours, CONFIG)
    assert back.keys() == weights.keys()
    assert all(back[key].equal(weights[key]) for key in weights)


def test_rotary_buffers_of_old_versions_are_passed_over() -> None:
    weights = {**official(), "layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    assert len(decoder_from_official(weights, CONFIG, "final.pt")) == len(CodecLM(CONFIG).state_dict())


def test_strict_both_ways() -> None:
    renamed = {key if key != "norm.weight" else "normal": value for key, value in official().items()}
    with pytest.raises(CheckpointError, match=r"final\.pt: missing \['norm\.weight'\], unexpected \['normal'\]"):
        decoder_from_official(renamed, CONFIG, "final.pt")
    with pytest.raises(CheckpointError, match=r"layers\.2\.self_attn\.k_proj\.weight: expected shape \(32, 32\)"):
        decoder_from_official(
            {**official(), "layers.2.self_attn.k_proj.weight": torch.zeros(32, 16)}, CONFIG, "final.pt"
        )
    with pytest.raises(CheckpointError, match=r"no place for text_input\.weight"):
        decoder_to_official({**CodecLM(CONFIG).state_dict(), "text_input.weight": torch.zeros(1)}, CONFIG)

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from icebreaker.checkpoints.official_config import encoder_config, read_audiollm_config, read_cmvn, read_json
from icebreaker.checkpoints.official_settings import official_settings, server_json, system_prompt
from icebreaker.errors import CheckpointError

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
TRAIN = GOLDEN / "checkpoints" / "audiollm" / "train.yaml"


def changed(tmp_path: Path, **model_conf: Any) -> Path:
    values = yaml.safe_load(TRAIN.read_text())
    values["model_conf"] |= model_conf
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_tiny_train_yaml() -> None:
    config = read_audiollm_config(TRAIN)
    encoder, adapter = config.encoder, config.adapter
    assert (encoder.mel_bins, encoder.subsampling_dim, encoder.width, encoder.heads) == (80, 24, 32, 4)
    assert (encoder.feed_forward_dim, encoder.layers, encoder.chunk_size, encoder.left_chunks) == (48, 2, 4, 3)
    assert (encoder.position_encoding, encoder.positions) == ("rel-enc", "official")
    assert (adapter.kind, adapter.kernel_size, adapter.norm, adapter.activation) == ("subsampling", 5, "layer", "gelu")
    assert (adapter.encoder_dim, adapter.llm_dim) == (32, 128)
    assert (config.prompts, config.tasks, config.turn_classes) == (5, 6, 4)


def test_the_published_sizes() -> None:
    config = read_audiollm_config(GOLDEN / "official-shape" / "checkpoints" / "audiollm" / "train.yaml")
    assert (config.encoder.width, config.encoder.layers, config.encoder.left_chunks) == (1024, 24, 16)
    assert (config.prompts, config.tasks, config.adapter.llm_dim) == (25, 20, 3584)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absenc_full", {"position_encoding": "abs-enc", "chunk_size": -1}),
        ("conv1d", {"feed_forward": "conv1d", "feed_forward_kernel_size": 3}),
        ("conv1dlinear", {"feed_forward": "conv1d-linear", "feed_forward_kernel_size": 3}),
        ("postnorm_concat", {"normalize_before": False, "concat_after": True}),
    ],
)
def test_other_encoder_options(name: str, expected: dict[str, Any]) -> None:
    values = yaml.safe_load((GOLDEN / "variants" / "encoders" / f"{name}.yaml").read_text())
    config = encoder_config(values, name)
    assert {key: getattr(config, key) for key in expected} == expected


def test_an_unknown_option_is_passed_over_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    values = yaml.safe_load(TRAIN.read_text())["encoder_conf"]
    values["para_conf"]["transformer"]["transformer-num-heads"] = 8
    with caplog.at_level(logging.WARNING):
        assert encoder_config(values, "train.yaml").heads == 4
    assert "transformer options that mean nothing here: num_heads" in caplog.text


def test_a_component_suffix_selects_another_block() -> None:
    values = yaml.safe_load(TRAIN.read_text())["encoder_conf"]
    values["overview_conf"]["encoder-layer-config"] = "subsampling-transformer_b"
    values["para_conf"]["transformer_b"] = values["para_conf"].pop("transformer") | {"transformer-num-blocks": 7}
    assert encoder_config(values, "x").layers == 7


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("overview_conf", "encoder-layer-config", "subsampling-conformer", "subsampling-transformer"),
        ("subsampling", "subsampling-rate", 6, "subsampling-rate must be 4"),
        ("subsampling", "subsampling-output-dim", 23, "does not meet"),
        ("transformer", "transformer-attention-heads", 5, "divisible by heads"),
        ("transformer", "transformer-pos-enc-class", "rope", "position_encoding"),
    ],
)
def test_encoders_that_cannot_be_built(section: str, key: str, value: Any, message: str) -> None:
    values = yaml.safe_load(TRAIN.read_text())["encoder_conf"]
    (values.get(section) or values["para_conf"][section])[key] = value
    with pytest.raises(CheckpointError, match=message):
        encoder_config(values, "train.yaml")


def test_prompts_that_are_not_used_are_none(tmp_path: Path) -> None:
    assert read_audiollm_config(changed(tmp_path, add_prompt_before=False)).prompts == 0
    assert read_audiollm_config(changed(tmp_path, prompt_finetune=False)).prompts == 0


def test_a_checkpoint_without_a_turn_head_cannot_converse(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no turn head"):
        read_audiollm_config(changed(tmp_path, predict_usr_state=0))


def test_widths_must_meet(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="enc_out_dim 64 is not the encoder's width 32"):
        read_audiollm_config(changed(tmp_path, enc_out_dim=64))


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    with pytest.raises(CheckpointError, match="no such file"):
        read_audiollm_config(path)
    path.write_text("a: [1")
    with pytest.raises(CheckpointError, match="not readable as YAML"):
        read_audiollm_config(path)
    path.write_text("- 1")
    with pytest.raises(CheckpointError, match="expected named values, got list"):
        read_audiollm_config(path)
    path.write_text("lr: 1")
    with pytest.raises(CheckpointError, match="no encoder_conf"):
        read_audiollm_config(path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        read_json(path)


def test_statistics_are_the_same_from_both_forms() -> None:
    mean, istd = read_cmvn(GOLDEN / "checkpoints" / "audiollm" / "global_cmvn")
    for ours, theirs in zip((mean, istd), read_cmvn(GOLDEN / "variants" / "global_cmvn.kaldi.txt", False), strict=True):
        assert torch.equal(ours, theirs)
    official, deviation = read_cmvn(GOLDEN / "official-shape" / "checkpoints" / "audiollm" / "global_cmvn")
    torch.testing.assert_close(official[:3], torch.tensor([11.837, 12.473, 13.417]), atol=5e-4, rtol=0)
    torch.testing.assert_close(deviation[:3], torch.tensor([0.3330, 0.3045, 0.2955]), atol=5e-5, rtol=0)


def test_statistics_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "global_cmvn"
    path.write_text('{"mean_stat": [1.0], "var_stat": [], "frame_num": 3}')
    with pytest.raises(CheckpointError, match="mean_stat, var_stat, frame_num"):
        read_cmvn(path)
    with pytest.raises(CheckpointError, match="Kaldi text"):
        read_cmvn(path, is_json=False)


def test_server_constants_become_settings_and_come_back() -> None:
    path = GOLDEN / "checkpoints" / "server.json"
    settings = official_settings(path, read_audiollm_config(TRAIN).chat_template)
    assert settings.system == "You are a helpful assistant."
    assert (settings.wave_out.first_chunk, settings.wave_out.chunk, settings.wave_out.overlap) == (20, 40, 10)
    assert (settings.wave_out.window, settings.wave_out.first_threshold, settings.wave_out.threshold) == (
        2401,
        0.1,
        0.015,
    )
    assert (settings.speech.top_k, settings.speech.penalty_window) == (1, -1)
    assert server_json(settings) == read_json(path)


def test_a_chat_template_that_is_not_chatml_is_refused() -> None:
    for template in (None, "<audio>", "<|im_start|>user\n<audio><|im_end|>\n"):
        with pytest.raises(CheckpointError, match="expected a ChatML chat_template"):
            system_prompt(template, "train.yaml")

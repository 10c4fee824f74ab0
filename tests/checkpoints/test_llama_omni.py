import json
import shutil
from pathlib import Path

import pytest
import torch
from omni_golden import MODEL, SHARDED, SPEECH_ENCODER, VOCODER, omni_parts, waveform
from safetensors.torch import load_file, save_file

from icebreaker.checkpoints.bundle import load_bundle
from icebreaker.checkpoints.convert import convert
from icebreaker.checkpoints.describe import describe, render
from icebreaker.checkpoints.find import load_parts
from icebreaker.checkpoints.llama_omni import is_llama_omni, load_llama_omni, read_llama_omni
from icebreaker.dialogue.parts import OmniParts
from icebreaker.errors import CheckpointError
from icebreaker.nn.weights import weights_sha256


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the tiny official folder that a test may damage, laid out as in the official working directory."""
    shutil.copytree(SPEECH_ENCODER.parent, tmp_path / "models" / "speech_encoder")
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_shards_hold_the_same_model(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHARDED, tmp_path / "sharded"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(MODEL / name, folder)
    ours, whole = load_llama_omni(folder, SPEECH_ENCODER, VOCODER), omni_parts()
    for part in ("encoder", "adaptor", "unit_ctc", "vocoder", "llm"):
        assert weights_sha256(getattr(ours, part)) == weights_sha256(getattr(whole, part)), part
    assert ours.llm.eos_ids == whole.llm.eos_ids == (489, 481, 488)


def test_the_encoder_is_found_where_the_configuration_names_it(model: Path) -> None:
    assert is_llama_omni(model)
    parts = load_parts(model, vocoder=VOCODER)
    assert isinstance(parts, OmniParts)
    assert weights_sha256(parts.encoder) == weights_sha256(omni_parts().encoder)
    shutil.rmtree(model.parent / "models")
    with pytest.raises(CheckpointError, match="give the Whisper file or folder with --speech-encoder"):
        load_parts(model, vocoder=VOCODER)


def test_what_is_missing_is_named(model: Path) -> None:
    with pytest.raises(CheckpointError, match="give its folder with --vocoder"):
        load_parts(model)
    with pytest.raises(CheckpointError, match="brings its own LLM"):
        load_parts(model, MODEL, vocoder=VOCODER)
    weights = load_file(model / "model.safetensors")
    del weights["speech_generator.layers.1.mlp.up_proj.weight"]
    weights["model.speech_projector.linear3.weight"] = torch.zeros(2)
    save_file(weights, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"speech_generator.*missing layers.1.mlp.up_proj.weight"):
        load_parts(model, vocoder=VOCODER)
    weights["speech_generator.layers.1.mlp.up_proj.weight"] = torch.zeros(80, 48)
    save_file(weights, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"speech_projector.*unexpected linear3.weight"):
        load_parts(model, vocoder=VOCODER)


def test_an_llm_tensor_too_many_is_refused(model: Path) -> None:
    weights = load_file(model / "model.safetensors") | {"model.extra.weight": torch.zeros(2)}
    save_file(weights, model / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected model\.extra\.weight"):
        load_parts(model, vocoder=VOCODER)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "omni_speech_llama"}, "has no speech generator"),
        ({"ctc_decoder_config": "2,48"}, "expected ctc_decoder_config as"),
        ({"speech_generator_type": "ar"}, "expected 'ctc'"),
        ({"speech_encoder_hidden_size": 40}, "asks for an encoder of width 40, the one given has 32"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "expected 'llama3'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model: Path, values: dict[str, object], message: str) -> None:
    change(model, **values)
    with pytest.raises(CheckpointError, match=message):
        read_llama_omni(model, None, VOCODER)


def test_a_vocoder_of_other_units_is_refused(model: Path, tmp_path: Path) -> None:
    vocoder = Path(shutil.copytree(VOCODER, tmp_path / "vocoder"))
    change(vocoder, num_embeddings=50)
    content = torch.load(vocoder / "g_00500000", weights_only=True)
    content["generator"]["dict.weight"] = content["generator"]["dict.weight"][:50].clone()
    torch.save(content, vocoder / "g_00500000")
    with pytest.raises(CheckpointError, match="speaks 100 units, the vocoder knows 50; give the vocoder"):
        read_llama_omni(model, None, vocoder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHARDED, tmp_path / "sharded"))
    (folder / "model-00003-of-00004.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00003-of-00004\.safetensors is missing"):
        read_llama_omni(folder, SPEECH_ENCODER, VOCODER)


def test_a_bundle_holds_the_whole_model(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    convert(MODEL, out, speech_encoder=SPEECH_ENCODER, vocoder=VOCODER)
    ours, official = load_bundle(out), omni_parts()
    assert isinstance(ours, OmniParts)
    assert ours.chat == official.chat
    for part in ("encoder", "adaptor", "unit_ctc", "vocoder", "llm"):
        assert weights_sha256(getattr(ours, part)) == weights_sha256(getattr(official, part)), part
    assert ours.llm.eos_ids == official.llm.eos_ids
    mel = official.features(waveform("a")[None])
    torch.testing.assert_close(ours.encoder(mel), official.encoder(mel))
    facts = describe(out)
    assert facts["kind"] == "llama-omni bundle, format 1"
    assert list(facts["parts"]) == ["encoder", "adaptor", "unit_ctc", "vocoder"]
    assert (facts["frame_ms"], facts["code_ms"]) == (100.0, 20.0)
    assert "unit_ctc" in render(facts)
    change(out, family="freeze-omni")
    with pytest.raises(CheckpointError, match="the family is 'freeze-omni', but the parts are those of 'llama-omni'"):
        load_bundle(out)


def test_the_official_folder_can_be_described(model: Path) -> None:
    facts = describe(model, vocoder=VOCODER)
    assert facts["kind"] == "official LLaMA-Omni checkpoint"
    assert facts["parts"]["adaptor"]["parameters"] == 2048 * 160 + 2048 + 64 * 2048 + 64
    assert "LLM: inside" in render(facts)


def test_options_of_one_family_are_refused_by_the_other(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--speech-encoder and --vocoder go with those only"):
        load_parts("mini", vocoder=VOCODER)

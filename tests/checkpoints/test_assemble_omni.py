import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from written_stages import save, with_template

from icebreaker.checkpoints.assemble import is_runs
from icebreaker.checkpoints.assemble_omni import assemble_omni, is_omni_runs
from icebreaker.checkpoints.bundle import load_bundle, read_bundle_config
from icebreaker.checkpoints.convert import convert
from icebreaker.checkpoints.unpack import unpack
from icebreaker.config import to_mapping
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.parts import OmniParts
from icebreaker.errors import CheckpointError
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm import LLM
from icebreaker.models.llm_folder import folder_sha256
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.nn.weights import weights_sha256
from icebreaker.talking import answer_turn

ENCODER = EncoderConfig(subsampling_dim=6, width=8, heads=2, feed_forward_dim=12, layers=1, left_chunks=2)
ADAPTOR = SpeechAdaptorConfig(encoder_dim=8, llm_dim=128, stride=2, hidden=16)
UNIT_CTC = UnitCTCConfig(llm_dim=128, width=16, layers=1, heads=2, linear_units=24, units=6, upsample=4)
VOCODER = UnitVocoderConfig(
    units=6, sample_rate=2000, latent_dim=8, upsample_rates=(8, 5), upsample_kernel_sizes=(16, 11),
    upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), resblock="2",
)  # fmt: skip


@pytest.fixture
def modules() -> dict[str, nn.Module]:
    torch.manual_seed(4)
    return {
        "encoder": Encoder(ENCODER), "adaptor": SpeechAdaptor(ADAPTOR), "unit_ctc": UnitCTC(UNIT_CTC),
        "vocoder": UnitVocoder(VOCODER),
    }  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path, modules: dict[str, nn.Module], llm_folder: Path) -> Path:
    """Stage folders as training leaves them; ears and LLM lie elsewhere."""
    runs, ears = tmp_path / "runs", tmp_path / "mini" / "encoder_ctc"
    llm = with_template(llm_folder, tmp_path / "mini" / "backbone" / "llm")
    save(ears, {"encoder": modules["encoder"], "ctc": nn.Linear(8, 5)}, {"encoder": to_mapping(ENCODER)})
    sha256 = {"llm_weights_sha256": weights_sha256(LLM.load(llm))}
    heard: dict[str, Any] = {
        **sha256, "llm": str(llm), "encoder": str(ears), "whisper": None, "adaptor": to_mapping(ADAPTOR), "chat":
        "tokenizer", "system": None, "instruction": "", "encoder_sha256": weights_sha256(modules["encoder"]),
        "stage": "speech_instruct",
    }  # fmt: skip
    save(runs / "speech_instruct", {"adaptor": modules["adaptor"]}, heard)
    save(runs / "unit_ctc", {"unit_ctc": modules["unit_ctc"]}, {**sha256, "model": to_mapping(UNIT_CTC)})
    save(runs / "unit_vocoder", {"vocoder": modules["vocoder"]}, {"model": to_mapping(VOCODER)})
    return runs


def changed(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_stages_become_a_bundle_that_speaks(runs: Path, tmp_path: Path, modules: dict[str, nn.Module]) -> None:
    assert is_omni_runs(runs)
    assert not is_runs(runs)
    convert(runs, tmp_path / "omni", half=True, embed_llm=True)
    config = read_bundle_config(tmp_path / "omni")
    assert config.family == "llama-omni"
    assert (config.llm.name, config.llm.width, config.llm.path) == ("backbone", 128, "llm")
    assert config.llm.sha256 == folder_sha256(tmp_path / "mini" / "backbone" / "llm")
    assert config.settings.system == "You are a helpful assistant."
    assert not any(name.startswith("ctc.") for name in load_file(tmp_path / "omni" / "model.safetensors"))
    parts = load_bundle(tmp_path / "omni")
    assert isinstance(parts, OmniParts)
    for part, module in modules.items():
        for name, value in module.state_dict().items():
            expected = value if name in ("mean", "istd") or not value.is_floating_point() else value.half().float()
            assert torch.equal(getattr(parts, part).state_dict()[name], expected), (part, name)
    dialogue = Dialogue(parts)
    answer, _ = answer_turn(dialogue, list(0.1 * torch.randn(4, 2560)), dialogue.initial_state([0], 700))
    assert answer.sample_rate == 2000
    assert len(answer.waveform) > 0


def test_a_tuned_llm_goes_along_instead_of_the_first(runs: Path, tmp_path: Path, llm_folder: Path) -> None:
    with_template(llm_folder, runs / "speech_instruct" / "llm")
    changed(runs / "speech_instruct" / "config.json", llm=str(tmp_path / "gone"))
    changed(tmp_path / "mini" / "encoder_ctc" / "config.json", llm_sha256="0" * 64)  # the LLM before it was tuned
    assemble_omni(runs, tmp_path / "omni")
    assert read_bundle_config(tmp_path / "omni").llm.name == "speech_instruct"


def test_the_card_says_what_was_trained_and_measured(runs: Path, tmp_path: Path) -> None:
    assemble_omni(runs, tmp_path / "omni", name="Tiny")
    card = (tmp_path / "omni" / "MODEL_CARD.md").read_text()
    assert card.startswith("# Tiny\n")
    assert "arXiv:2409.06666" in card
    assert "| speech_instruct | adaptor; encoder frozen, the LLM too unless the stage tuned it | 40 |" in card
    assert "| encoder_ctc | wer | 0.125 |" in card
    assert "| unit_ctc | wer | 0.125 |" in card
    vocoder = sum(weight.numel() for weight in UnitVocoder(VOCODER).state_dict().values())
    assert f"| vocoder | {vocoder:,} |" in card


def test_ears_that_were_trained_on_are_refused(runs: Path, tmp_path: Path) -> None:
    changed(runs / "speech_instruct" / "config.json", encoder_sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"the encoder was trained on since .* run stage speech_instruct again"):
        assemble_omni(runs, tmp_path / "omni")
    assert not (tmp_path / "omni").exists()


def test_what_is_missing_is_named(runs: Path, tmp_path: Path) -> None:
    (runs / "unit_ctc" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"unit_ctc: no finished stage .*mini-llama-omni/unit_ctc\.toml first"):
        assemble_omni(runs, tmp_path / "omni")


@pytest.mark.parametrize(
    ("stage", "values", "message"),
    [
        ("unit_ctc", {"llm_weights_sha256": "0" * 64}, r"unit_ctc was trained with an LLM of fingerprint 0{16}"),
        ("speech_instruct", {"encoder": None, "whisper": "large-v3.pt"}, "hears with Whisper's encoder"),
        ("speech_instruct", {"encoder": "nowhere"}, "nowhere: the encoder that .* is not there"),
        ("speech_instruct", {"llm": "nowhere"}, "nowhere: the LLM of .* is not there; give its folder with --llm"),
        ("unit_vocoder", {"model": to_mapping(VOCODER) | {"units": 7}}, "speaks 6 units, the vocoder knows 7"),
    ],
)
def test_stages_that_do_not_belong_together(
    runs: Path, tmp_path: Path, stage: str, values: dict[str, object], message: str
) -> None:
    changed(runs / stage / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        assemble_omni(runs, tmp_path / "omni")


def test_an_unpacked_bundle_is_put_together_again_as_it_was(runs: Path, tmp_path: Path) -> None:
    assemble_omni(runs, tmp_path / "bundle")
    unpack(tmp_path / "bundle", tmp_path / "again")
    convert(tmp_path / "again", tmp_path / "second", half=True, embed_llm=True)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("bundle", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert read_bundle_config(tmp_path / "bundle") == read_bundle_config(tmp_path / "second")

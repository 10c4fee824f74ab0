import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from written_stages import save, with_template

from icebreaker.checkpoints.assemble import assemble, is_runs
from icebreaker.checkpoints.bundle import load_bundle, read_bundle_config
from icebreaker.checkpoints.modules import ModelConfig
from icebreaker.checkpoints.unpack import unpack
from icebreaker.config import to_mapping
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.errors import CheckpointError
from icebreaker.models.llm import LLM
from icebreaker.models.llm_folder import folder_sha256
from icebreaker.models.ngram import NGram
from icebreaker.nn.weights import weights_sha256


@pytest.fixture
def runs(tmp_path: Path, modules: dict[str, nn.Module], model_config: ModelConfig, llm_folder: Path) -> Path:
    """Stage folders as training leaves them."""
    runs = tmp_path / "runs"
    llm = with_template(llm_folder, runs / "backbone" / "llm")
    sha256 = weights_sha256(LLM.load(llm))
    heard = {"llm_sha256": {"before": sha256, "after": sha256}, "optim": {"seed": 7, "steps": 40}}
    sizes = {"encoder_config": to_mapping(model_config.encoder), "adapter": to_mapping(model_config.adapter)}
    ctc = nn.Linear(8, 5)
    save(
        runs / "alignment",
        {"encoder": modules["encoder"], "adapter": modules["adapter"], "prompts": modules["prompts"], "ctc": ctc},
        {**heard, **sizes, "prompts": 3, "tasks": 2, "encoder": "runs/encoder_ctc"},
    )
    judged = {"prompts": modules["prompts"], "turn_head": modules["turn_head"]}
    save(runs / "spoken_qa", judged, {**heard, "classes": 4, "prompts": 3})
    save(runs / "codec", {"codec": modules["codec"]}, {"model": to_mapping(model_config.codec)})
    spoken: dict[str, Any] = {"llm_sha256": folder_sha256(llm), "llm_weights_sha256": sha256}
    spoken["model"] = to_mapping(model_config.codec_lm)
    save(
        runs / "codec_lm_prefix",
        {"codec_lm": modules["codec_lm"]},
        {**spoken, "model": to_mapping(model_config.codec_lm)},
    )
    return runs


def test_the_later_round_of_the_llm_is_taken(runs: Path, tmp_path: Path) -> None:
    (runs / "backbone").rename(runs / "backbone_heard")
    shutil.copytree(runs / "backbone_heard" / "llm", runs / "backbone" / "llm")
    (runs / "backbone" / "llm" / "model.safetensors").unlink()  # the earlier round: could not be read at all
    assemble(runs, tmp_path / "mini")
    assert read_bundle_config(tmp_path / "mini").llm.name == "backbone_heard"


def test_stages_become_a_bundle_that_loads(runs: Path, tmp_path: Path, modules: dict[str, nn.Module]) -> None:
    assert is_runs(runs)
    assemble(runs, tmp_path / "mini")
    config = read_bundle_config(tmp_path / "mini")
    assert config.llm.sha256 == folder_sha256(runs / "backbone" / "llm")
    assert (config.llm.width, config.llm.path, config.llm.name) == (128, "llm", "backbone")
    assert config.settings.duplex.answer_silence
    stored = load_file(tmp_path / "mini" / "model.safetensors")
    assert not any(name.startswith("ctc.") for name in stored)
    parts = load_bundle(tmp_path / "mini")
    for part, module in modules.items():
        for name, value in module.state_dict().items():
            expected = value if name in ("mean", "istd") or not value.is_floating_point() else value.half().float()
            assert torch.equal(getattr(parts, part).state_dict()[name], expected), (part, name)
    assert parts.llm.tokenizer.decode(parts.chat.suffix_ids) == "<|im_end|>\n<|im_start|>assistant\n"


def test_the_card_says_what_was_trained_and_measured(runs: Path, tmp_path: Path) -> None:
    with (runs / "codec_lm_prefix" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 60, "loss": 0.4, "seconds": 5400.0, "processes": 2}) + "\n")
    assemble(runs, tmp_path / "mini", name="Tiny")
    card = (tmp_path / "mini" / "MODEL_CARD.md").read_text()
    assert card.startswith("# Tiny\n")
    assert f"sha256 `{folder_sha256(runs / 'backbone' / 'llm')}`" in card
    assert "| alignment | encoder and adapter, through the frozen LLM and by CTC over its tokens | 40 | 7 |" in card
    ends = {line.split(" | ")[0][2:]: line.split(" | ")[-1] for line in card.splitlines() if line.count(" | ") == 5}
    assert ends["spoken_qa"] == "1.00 |"
    assert ends["codec_lm_prefix"] == "3.00 |"  # an hour and a half of two processes
    assert "| alignment | wer | 0.125 |" in card
    assert "| turn_head | 516 |" in card
    assert str(tmp_path) not in card


def test_an_unfinished_stage_is_named(runs: Path, tmp_path: Path) -> None:
    (runs / "spoken_qa" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"spoken_qa: no finished stage .* configs/mini/spoken_qa\.toml first"):
        assemble(runs, tmp_path / "mini")
    assert not (tmp_path / "mini").exists()


def test_stages_of_different_llms_do_not_mix(runs: Path, tmp_path: Path) -> None:
    path = runs / "spoken_qa" / "config.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"llm_sha256": {"before": "0" * 64, "after": "0" * 64}}))
    with pytest.raises(CheckpointError, match=r"spoken_qa was trained with an LLM of fingerprint 0{16}"):
        assemble(runs, tmp_path / "mini")


def test_stages_of_different_sizes_do_not_mix(runs: Path, tmp_path: Path) -> None:
    path = runs / "codec" / "config.json"
    values = json.loads(path.read_text())
    values["model"]["codes"] = 32
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="codec_lm has 16 codes, the codec 32"):
        assemble(runs, tmp_path / "mini")


def test_an_unpacked_bundle_is_put_together_again_as_it_was(runs: Path, tmp_path: Path) -> None:
    assemble(runs, tmp_path / "mini", name="Tiny")
    unpack(tmp_path / "mini", tmp_path / "again")
    assemble(tmp_path / "again", tmp_path / "second", name="Tiny", settings=DialogueSettings(), embed_llm=True)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("mini", "second"))
    assert first.keys() == second.keys()
    assert not [n for n, v in first.items() if v.dtype != second[n].dtype or not torch.equal(v, second[n])]
    earlier, later = (read_bundle_config(tmp_path / name) for name in ("mini", "second"))
    assert (earlier.model, earlier.llm) == (later.model, later.llm)
    assert (tmp_path / "mini" / "MODEL_CARD.md").read_text() == (tmp_path / "second" / "MODEL_CARD.md").read_text()


def test_a_language_comes_along(runs: Path, tmp_path: Path) -> None:
    language = NGram.counted([((0, 1, 2), 1), ((1, 2), 2)], vocabulary=6, order=2)
    save(runs / "ngram", {"language": language}, {"language": to_mapping(language.config)})
    assemble(runs, tmp_path / "mini", storage="float16")
    unpack(tmp_path / "mini", tmp_path / "again")
    assemble(tmp_path / "again", tmp_path / "second", storage="float16")
    for name in ("mini", "second"):
        found = load_bundle(tmp_path / name).language
        assert found is not None
        assert found.config == language.config
        for order in (1, 2):
            assert torch.equal(getattr(found, f"keys{order}"), getattr(language, f"keys{order}"))
        tokens = np.arange(6)
        np.testing.assert_allclose(found.log_p((1,), tokens), language.log_p((1,), tokens), atol=5e-3)
    assert "language" in (tmp_path / "mini" / "MODEL_CARD.md").read_text()


def test_a_stage_that_is_run_again_takes_its_earlier_place_in_the_card(
    runs: Path, tmp_path: Path, modules: dict[str, nn.Module]
) -> None:
    assemble(runs, tmp_path / "mini")
    unpack(tmp_path / "mini", tmp_path / "again")
    folder = tmp_path / "again" / "spoken_qa"
    config = json.loads((folder / "config.json").read_text())
    del config["unpacked"]
    shutil.rmtree(folder)
    save(folder, {"turn_head": modules["turn_head"], "prompts": modules["prompts"]}, {**config, "optim": {"seed": 99}})
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 5, "evaluation": {"taken": 0.5}}) + "\n")
    assemble(tmp_path / "again", tmp_path / "second")
    lines = (tmp_path / "second" / "MODEL_CARD.md").read_text().splitlines()
    assert [line for line in lines if line.startswith("| spoken_qa")] == [
        "| spoken_qa | prompt embeddings and turn head; all else frozen | 5 | 99 |  | 0.00 |",
        "| spoken_qa | taken | 0.5 |",
    ]
    assert "| alignment | wer | 0.125 |" in lines


def test_unpacking_overwrites_nothing(runs: Path, tmp_path: Path) -> None:
    assemble(runs, tmp_path / "mini")
    unpack(tmp_path / "mini", tmp_path / "again")
    with pytest.raises(CheckpointError, match=r"backbone/llm: is there already, and would be overwritten"):
        unpack(tmp_path / "mini", tmp_path / "again")

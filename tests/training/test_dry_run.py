import json
import shutil
from pathlib import Path

import pytest
from speech import write_questions
from test_encoder_ctc import TOY
from tiny_folder import write_llm
from typer.testing import CliRunner

from icebreaker.cli import app
from icebreaker.config import to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.errors import ConfigError, DataError
from icebreaker.training import dry_run as module
from icebreaker.training import encoder_ctc, stages
from icebreaker.training.dry_run import dry_run
from icebreaker.training.encoder_ctc import EncoderCTCConfig
from icebreaker.training.loop import OptimConfig
from icebreaker.training.speech_batches import SpeechConfig


@pytest.fixture
def config(tmp_path: Path) -> EncoderCTCConfig:
    questions, features = write_questions(tmp_path / "questions")
    return EncoderCTCConfig(
        output=str(tmp_path / "out" / "encoder"), encoder=TOY, evaluate_every=1,
        data=SpeechConfig(questions=questions, question_features=features, frames_per_batch=900),
        optim=OptimConfig(steps=600, lr=1e-3, save_every=1, log_every=1),
    )  # fmt: skip


def toml(values: dict[str, object], table: str = "") -> str:
    plain = {k: v for k, v in values.items() if not isinstance(v, dict) and v is not None}
    text = (f"[{table}]\n" if table else "") + "".join(f"{k} = {json.dumps(v)}\n" for k, v in plain.items())
    return text + "".join(toml(v, f"{table}.{k}".strip(".")) for k, v in values.items() if isinstance(v, dict))


def test_a_stage_in_order_takes_two_steps_and_leaves_nothing(config: EncoderCTCConfig) -> None:
    seen: list[tuple[int, int]] = []
    found = dry_run(config, encoder_ctc.run, lambda done, total: seen.append((done, total)))
    assert found.problems == []
    assert seen[-1] == (16, 16)
    assert found.facts["data.questions"].startswith("16 recordings")
    assert len(found.facts["first losses"].split(", ")) == 2
    assert found.facts["all steps"].startswith("600 steps")
    assert found.facts["device"] == "cpu"
    assert not Path(config.output).parent.exists()


def test_all_problems_are_found_at_once(config: EncoderCTCConfig, tmp_path: Path) -> None:
    manifest = Path(config.data.questions)
    first = read_manifest(manifest)[0]
    first.audio.unlink()
    values = to_mapping(config)
    values["data"] |= {"human": str(tmp_path / "nowhere.jsonl"), "human_features": str(tmp_path)}
    (tmp_path / "questions" / "features" / "rows.jsonl").write_text("")
    broken = stages.load_toml(_write(tmp_path, values), EncoderCTCConfig)
    problems = dry_run(broken, encoder_ctc.run).problems
    assert len(problems) == 3
    assert "1 problems" in problems[0]
    assert f"{first.id}: {first.audio}: no such file" in problems[0]
    assert "nowhere.jsonl: cannot read this manifest" in problems[1]
    assert "has 0 of 16 recordings; run `icebreaker data features`" in problems[2]


def test_a_gpu_that_is_not_there_is_told_before_any_work(config: EncoderCTCConfig, tmp_path: Path) -> None:
    path = _write(tmp_path, to_mapping(config))
    Path(config.data.questions).unlink()  # which would be told next
    with pytest.raises(ConfigError, match=r"device is 'cuda', but torch .* sees no GPU"):
        stages.run(path, ["optim.device=cuda"], lambda report: None)
    found = stages.rehearse(path, ["optim.device=cuda"], lambda done, total: None)
    assert "sees no GPU; set device to 'auto' or 'cpu'" in found.problems[0]
    assert "cannot read this manifest" in found.problems[1]


def test_an_llm_that_earlier_stages_did_not_know_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "alignment"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"stage": "alignment", "llm_sha256": {"after": "0" * 64}}))

    class Config:
        llm = write_llm(tmp_path / "llm")
        alignment = str(folder)

    found = module.DryRun()
    module._check_llm(Config(), found)
    assert len(found.problems) == 1
    assert "was trained with an LLM of SHA-256 000000000000" in found.problems[0]


def test_room_for_checkpoints_is_asked_for(config: EncoderCTCConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10))
    (problem,) = dry_run(config, encoder_ctc.run).problems
    assert "MiB needed for checkpoints, 0 MiB free; make room" in problem


def test_the_command_prints_and_exits(config: EncoderCTCConfig, tmp_path: Path) -> None:
    path = _write(tmp_path, to_mapping(config))
    done = CliRunner().invoke(app, ["train", str(path), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "one step" in done.output
    next(iter(read_manifest(Path(config.data.questions)))).audio.unlink()
    done = CliRunner().invoke(app, ["train", str(path), "--dry-run"])
    assert done.exit_code == 1
    assert "no such file" in done.output
    with pytest.raises(DataError, match="no such file"):
        stages.run(path, [], lambda report: None)


def _write(folder: Path, values: dict[str, object]) -> Path:
    path = folder / "stage.toml"
    path.write_text(toml(values))
    return path

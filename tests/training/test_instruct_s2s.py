import json
from pathlib import Path

import omni
import pytest
from typer.testing import CliRunner

from icebreaker.audio.pcm import load_audio
from icebreaker.cli import app
from icebreaker.data.manifest import read_manifest
from icebreaker.errors import ConfigError
from icebreaker.training import stages
from icebreaker.training.instruct_s2s import load_units, run
from icebreaker.training.unit_extraction import read_units

RECIPE = """
sources = ["set.json"]
plain_replies = true
units = "{folder}/units.toml"
[llm]
folder = "{folder}/llm"
temperature = 0.0
max_new_tokens = 3
[[question_voices]]
name = "us"
engine = "espeak"
voice = "en-us"
[answer_voice]
name = "gb"
engine = "espeak"
voice = "en-gb"
"""
UNITS = """
stage = "units"
output = "{folder}/units"
data = "{folder}/questions/manifest.jsonl"
units = 6
[features]
encoder = "{folder}/encoder"
layer = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    omni.write(tmp_path)
    (tmp_path / "set.json").write_text(json.dumps([{"instruction": f"Say {n} words."} for n in range(6)]))
    (tmp_path / "units.toml").write_text(UNITS.format(folder=tmp_path))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(folder=tmp_path))
    return tmp_path / "recipe.toml"


def test_a_local_llm_real_voices_and_fitted_units(recipe: Path, tmp_path: Path) -> None:
    """A random LLM says rubbish: every instruction is either spoken, with units, or counted with a reason."""
    stages.run(tmp_path / "units.toml", [], lambda report: None)
    arguments = [
        "data",
        "instruct-s2s",
        "--config",
        str(recipe),
        "--source",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    lost = sum(sum(reasons.values()) for reasons in report["dropped"].values())
    assert report["instructions"] == 6 == report["spoken"] + lost
    assert len(read_units(tmp_path / "out" / "units.jsonl")) == report["spoken"]


def test_units_need_their_stage(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kmeans.npy: no such file; run `icebreaker train"):
        run(recipe, tmp_path, tmp_path / "out")


def test_the_units_are_those_of_the_stage(recipe: Path, tmp_path: Path) -> None:
    stages.run(tmp_path / "units.toml", [], lambda report: None)
    units = load_units(tmp_path / "units.toml")
    for item in read_manifest(tmp_path / "questions" / "manifest.jsonl")[:3]:
        expected = read_units(tmp_path / "units" / "units.jsonl")[item.id]
        assert units(load_audio(item.audio, 16000)) == (expected.units.tolist(), expected.durations.tolist())

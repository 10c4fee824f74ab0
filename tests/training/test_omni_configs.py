"""The shipped configurations of the mini LLaMA-Omni fit their stages."""

import tomllib
from pathlib import Path

import pytest

from icebreaker.config import load_toml
from icebreaker.data.instruct_s2s import InstructS2SConfig
from icebreaker.training.stages import STAGES

FOLDER = Path(__file__).parents[2] / "configs" / "mini-llama-omni"


@pytest.mark.parametrize("more", ["", "_more"])
@pytest.mark.parametrize("name", ["units", "unit_vocoder", "speech_instruct", "unit_ctc"])
def test_stage_files_fit(name: str, more: str) -> None:
    path = FOLDER / f"{name}{more}.toml"
    assert tomllib.loads(path.read_text())["stage"] == name
    config = load_toml(path, STAGES[name][0])
    assert str(config.output) == f"runs/mini-llama-omni{more.replace('_', '-')}/{name}"


def test_the_recipe_fits_and_uses_the_stages_units() -> None:
    config = load_toml(FOLDER / "instruct-s2s.toml", InstructS2SConfig)
    assert config.units == Path("configs/mini-llama-omni/units.toml")


def test_all_stages_speak_the_same_units() -> None:
    read = {
        name: tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in ("units", "unit_vocoder", "unit_ctc")
    }
    assert read["units"]["units"] == read["unit_vocoder"]["model"]["units"] == read["unit_ctc"]["model"]["units"]
    assert read["unit_vocoder"]["units"] == read["unit_ctc"]["units"] == f"{read['units']['output']}/units.jsonl"

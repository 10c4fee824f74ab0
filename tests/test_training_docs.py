"""Every command in docs/training.md parses, and every configuration it names fits its stage with its overrides."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from icebreaker.cli import app
from icebreaker.config import load_toml
from icebreaker.training.stages import STAGES, stage_name

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "training.md").read_text()
LINES = [line for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
COMMANDS = [c for c in [*LINES, *re.findall(r"`(icebreaker train configs[^`]*)`", TEXT)] if c.startswith("icebreaker")]


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_the_command_parses(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    found = typer.main.get_command(app).commands[name]
    found.make_context(name, list(arguments), resilient_parsing=False)
    if name == "train":
        path, *overrides = [argument for argument in arguments if not argument.startswith("--")]
        load_toml(ROOT / path, STAGES[stage_name(ROOT / path)][0], overrides)


def test_every_ablation_fits_its_stage(tmp_path: Path) -> None:
    echo = tmp_path / "icebreaker"
    echo.write_text('#!/bin/sh\necho "$@"\n')
    echo.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "ablations"], env={"PATH": f"{tmp_path}:/usr/bin:/bin", "STEPS": "7"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 13
    outputs = set()
    for line in lines:
        _, path, *overrides = line.split()
        config = load_toml(ROOT / path, STAGES[stage_name(ROOT / path)][0], overrides)
        assert config.optim.steps == 7
        outputs.add(config.output)
    assert len(outputs) == len(lines)

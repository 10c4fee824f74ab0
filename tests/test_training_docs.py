"""Every command in docs/training.md parses, and every configuration it names fits its stage with its overrides."""

import re
import shlex
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

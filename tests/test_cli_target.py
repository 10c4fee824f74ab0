import sys

import pytest
import typer
from typer.testing import CliRunner

from icebreaker.cli_target import Target, command_line, measured


def test_commands_get_the_shared_options() -> None:
    app, seen = typer.Typer(), list[tuple[Target, int]]()

    @app.command()
    @measured
    def weigh(target: Target, stones: int = 3) -> None:
        """Weigh."""
        seen.append((target, stones))

    result = CliRunner().invoke(app, ["--out", "x", "--stones", "5", "--url", "ws://h", "--seed", "7"])
    assert result.exit_code == 0, result.output
    ((target, stones),) = seen
    assert stones == 5
    assert (str(target.out), target.server, target.seed, target.model, target.api_key) == (
        "x",
        "ws://h",
        7,
        "mini",
        None,
    )
    assert CliRunner().invoke(app, []).exit_code == 2  # --out is missing
    assert "--stones" in CliRunner().invoke(app, ["--help"]).output


@pytest.mark.parametrize("words", [["--api-key", "secret"], ["--api-key=secret"], ["--judge-key", "secret"]])
def test_secrets_are_not_kept(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/icebreaker", "eval", "sqa", "a b.jsonl", *words])
    assert command_line().startswith("icebreaker eval sqa 'a b.jsonl' ")
    assert "secret" not in command_line()
    assert "***" in command_line()


def test_only_our_own_command_line_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--api-key", "x"])
    assert command_line() == ""

"""How a conversation looks on the command line, and ``icebreaker talk --server``."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

__all__ = ["give_answer", "progress_message", "say_text", "talk_to_server"]


def talk_to_server(
    server: str, api_key: str | None, model: str, question: Path | None, system: str | None, turn_head: bool,
    out: Path | None, json_: bool,
) -> None:  # fmt: skip
    """One recorded question, or a conversation by microphone, with a Realtime server."""
    from icebreaker.client import RemoteEngine, answer_recording, talk_live
    from icebreaker.engine.messages import SessionConfig

    engine = RemoteEngine(server, api_key, model)
    by_itself = turn_head or question is None
    config = SessionConfig(turns="model" if by_itself else "client", instructions=system)
    if question is None:
        talk_live(engine, config, say=say_text, out=out)
        return
    with progress_message("asking", quiet=json_):
        answer = answer_recording(engine, question, config)
    give_answer(answer, out, json_)


def give_answer(answer: Any, out: Path | None, json_: bool) -> None:
    """Write the sound where it is wanted, and print texts and times."""
    if out is not None:
        from icebreaker.audio.pcm import save_wav

        save_wav(out, answer.waveform, answer.sample_rate)
    if json_:
        import json

        typer.echo(json.dumps(answer.report(out), ensure_ascii=False))
    else:
        _print_answer(answer, out)


def say_text(delta: str) -> None:
    """Print as it comes."""
    typer.echo(delta, nl=False)


@contextlib.contextmanager
def progress_message(text: str, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Something that moves while the user waits; gives what ends it early."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield status.stop


def _print_answer(answer: Any, out: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print()
    console.print(
        f"[bold]you[/bold]        {answer.heard or '(no transcript: this model has no transcription prompt)'}"
    )
    console.print(f"[bold]icebreaker[/bold] {answer.text or '(no answer)'}")
    table = Table("from the turn's end to", "ms")
    for name, milliseconds in answer.latency_ms.items():
        table.add_row(name, f"{milliseconds:.0f}")
    console.print(table)
    seconds = len(answer.waveform) / answer.sample_rate
    console.print(
        f"{seconds:.2f} s of speech, real-time factor {answer.real_time_factor:.2f}"
        + (f", written to {out}" if out else "")
    )

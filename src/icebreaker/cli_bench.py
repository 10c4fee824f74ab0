"""``icebreaker bench``: parses, calls, prints; every heavy import waits inside its command."""

from pathlib import Path
from typing import Annotated

import typer

from icebreaker.cli_eval import Turns
from icebreaker.cli_target import Target, command_line, finish, measured, progress_bar, serve_options

__all__ = ["bench_app"]

bench_app = typer.Typer(help="Load on a server, as its users make it.", no_args_is_help=True, rich_markup_mode=None)
SPARE_SESSIONS = 8  # of a server of our own: conversations that ended may still be held for their return
SPOKEN = (  # where no recordings are given
    "What is the capital of France?", "How many days are in a week?", "What is two plus three?",
    "What colour is the sky?", "Who are you?", "What sound does a cat make?", "What is the opposite of hot?",
    "How many legs does a spider have?",
)  # fmt: skip


@bench_app.callback()
def group() -> None:
    """Keep ``serve`` a command of its own while it is the only one."""


@bench_app.command()
@measured
def serve(
    target: Target,
    sessions: Annotated[int, typer.Option(min=1, help="Conversations at once.")] = 8,
    minutes: Annotated[float, typer.Option(min=0.01, help="Of real time.")] = 1.0,
    barge_in: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of questions that interrupt.")] = 0.3,
    exchanges: Annotated[int, typer.Option(min=1, help="Questions in one conversation.")] = 4,
    questions: Annotated[
        list[Path] | None, typer.Option(help="Recorded questions: files, or a manifest's; default: synthesised.")
    ] = None,
    turns: Annotated[Turns, typer.Option(help="Who ends the user's turn.")] = Turns.model,
    limit: Annotated[int, typer.Option(min=1, help="Different questions of a manifest.")] = 100,
    split: Annotated[str, typer.Option(help="Split of a manifest; 'all' for the whole.")] = "test",
) -> None:
    """Real dialogues in real time with barge-ins: first audio, gaps, stop latency, errors."""
    import asyncio
    import contextlib

    from icebreaker.client.own_server import own_server
    from icebreaker.client.remote import RemoteEngine
    from icebreaker.evaluation.load import LoadConfig, bear_load, load_report
    from icebreaker.evaluation.provenance import StolenTime, machine_facts

    config = LoadConfig(
        sessions=sessions, minutes=minutes, barge_in=barge_in, exchanges=exchanges, turns=turns.value, seed=target.seed
    )
    recordings = _recordings(questions, target.out, limit, split)
    facts = {"command": command_line(), **machine_facts(), "model": target.model, "server": target.server or "our own"}
    if target.label:
        facts["label"] = target.label
    room = ["--max-sessions", str(sessions + SPARE_SESSIONS)]
    with contextlib.ExitStack() as stack:
        own = None if target.server else stack.enter_context(own_server([*serve_options(target), *room]))
        talker = RemoteEngine(target.server or (own.url if own else ""), target.api_key, target.model)
        before = own.memory_mib() if own else None
        advance, stolen = stack.enter_context(progress_bar("bench serve")), StolenTime()
        tally = asyncio.run(bear_load(talker, recordings, config, lambda share: advance(round(1000 * share), 1000)))
        if stolen.percent is not None:
            facts["processor time taken by the host"] = f"{stolen.percent:.1f} %"
        if own and before is not None:
            facts |= {"memory, MiB": f"{before:.0f} before, {own.memory_mib() or 0:.0f} after"}
    finish(load_report(tally, config, facts), target.out)


def _recordings(given: list[Path] | None, out: Path, limit: int, split: str) -> list[Path]:
    from icebreaker.data.manifest import read_manifest
    from icebreaker.data.manifest_check import check_measured
    from icebreaker.errors import DataError
    from icebreaker.evaluation.question_sets import spread
    from icebreaker.evaluation.recordings import recording_of

    found: list[Path] = []
    for path in given or ():
        if path.suffix == ".jsonl":
            items = read_manifest(path, None if split == "all" else split)
            items = spread([item for item in items if item.answer], limit)
            check_measured(path, {item.id for item in items})
            found += [item.audio for item in items]
        else:
            found.append(path)
    if given and not found:
        raise DataError(f"no questions with answers in split {split!r} of {', '.join(map(str, given))}")
    if missing := [path for path in found if not path.is_file()]:
        raise DataError(f"{len(missing)} recordings are missing, such as {missing[0]}")
    return found or [recording_of(text, "espeak-en-us+klatt4", out / "questions") for text in SPOKEN]

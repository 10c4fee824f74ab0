"""What ``icebreaker eval`` and ``icebreaker bench`` measure: the options that all their commands share."""

import contextlib
import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["Target", "command_line", "finish", "measured", "progress_bar", "running", "serve_options"]

SECRETS = ("--api-key", "--judge-key")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The system under test, and where its figures go; every field is an option of every command."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of reports and per-item results.")]
    model: Annotated[
        str,
        typer.Option("--model", help="'mini', a bundle, the official folder; with --server: the name it is asked for."),
    ] = "mini"
    llm: Annotated[Path | None, typer.Option("--llm", help="Hugging Face folder of the frozen LLM.")] = None
    speech_encoder: Annotated[
        Path | None, typer.Option("--speech-encoder", help="Whisper file or folder, for the official LLaMA-Omni.")
    ] = None
    vocoder: Annotated[
        Path | None, typer.Option("--vocoder", help="Unit vocoder folder, for the official LLaMA-Omni.")
    ] = None
    server: Annotated[
        str | None, typer.Option("--server", "--url", help="Measure a Realtime server instead, such as ws://host:8000.")
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="ICEBREAKER_API_KEY", help="The server's key; better in the variable."),
    ] = None
    label: Annotated[str, typer.Option(help="Name of this system in tables of several.")] = ""
    seed: Annotated[int, typer.Option(help="Seed of all sampling and noise.")] = 0
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu"
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32"
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None


def measured(command: Callable[..., None]) -> Callable[..., None]:
    """``command(target, ...)`` as Typer sees it: with its own options, then those of ``Target``."""
    own = list(inspect.signature(command).parameters.values())[1:]
    common = list(inspect.signature(Target).parameters.values())
    names = [field.name for field in fields(Target)]

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        command(Target(**{name: options.pop(name) for name in names}), **options)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *common)]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapped


@contextlib.contextmanager
def running(target: Target, name: str, *, paced: bool = False, served: bool = False) -> Iterator[Any]:
    """The system, ready to be asked, as a ``Run`` with a progress bar.

    ``paced``: a server hears speech as fast as it is spoken. ``served``: without a server one of our own is started,
    because its turn taking is part of what is measured.
    """
    from icebreaker.errors import ServerError
    from icebreaker.evaluation.run import Run

    with contextlib.ExitStack() as stack:
        if target.server is not None:
            system = _server(target, target.server, paced)
            facts = {"server": target.server, "asked for": target.model}
        else:
            facts = _model_facts(target)
            if served:
                from icebreaker.client.own_server import own_server

                system = _server(target, stack.enter_context(own_server(serve_options(target))).url, paced)
            else:
                system = _local(target)
        run = Run(
            system=system, model=facts, out=target.out, seed=target.seed, label=target.label, command=command_line(),
            progress=stack.enter_context(progress_bar(name)),
        )  # fmt: skip
        try:
            yield run
        except ServerError as error:
            kept = f"what was measured is kept in {target.out}; run the same command again to go on"
            raise ServerError(f"{error}; {kept}") from error


def serve_options(target: Target) -> list[str]:
    """How `icebreaker serve` is told about the model of ``target``."""
    options = ["--model", target.model, "--device", target.device, "--dtype", target.dtype]
    options += ["--threads", str(target.threads)] if target.threads else []
    for name, path in {"llm": target.llm, **_omni(target)}.items():
        options += [f"--{name.replace('_', '-')}", str(path)] if path else []
    return options


def _omni(target: Target) -> dict[str, Path]:
    """Folders that only the official LLaMA-Omni needs, where they are given."""
    given = {"speech_encoder": target.speech_encoder, "vocoder": target.vocoder}
    return {name: path for name, path in given.items() if path is not None}


def _server(target: Target, url: str, paced: bool) -> Any:
    from icebreaker.client.remote import RemoteEngine
    from icebreaker.evaluation.systems import Server

    return Server(RemoteEngine(url, target.api_key, target.model), paced=paced)


def _local(target: Target) -> Any:
    import torch

    from icebreaker.evaluation.systems import LocalModel
    from icebreaker.talking import load_dialogue

    if target.threads:
        torch.set_num_threads(target.threads)
    more: dict[str, Any] = dict(_omni(target))
    return LocalModel(load_dialogue(target.model, target.llm, device=target.device, dtype=target.dtype, **more))


def _model_facts(target: Target) -> dict[str, Any]:
    from icebreaker.errors import ConfigError
    from icebreaker.evaluation.provenance import model_sha256

    if target.dtype not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"expected --dtype float32, bfloat16 or float16, got {target.dtype!r}")
    sha256 = model_sha256(target.model, target.llm, tuple(_omni(target).values()))
    return {"model": target.model, "sha256": sha256, "device": target.device, "dtype": target.dtype}


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Something that moves, where somebody looks; gives what moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def command_line() -> str:
    """The command as it was typed, without secrets; empty when this is no command line of ours."""
    if Path(sys.argv[0]).name not in ("icebreaker", "__main__.py"):
        return ""
    words = list(sys.argv[1:])
    for index, word in enumerate(words):
        if word.startswith(tuple(f"{secret}=" for secret in SECRETS)):
            words[index] = f"{word.partition('=')[0]}=***"
        elif index and words[index - 1] in SECRETS:
            words[index] = "***"
    return shlex.join(["icebreaker", *words])


def finish(report: Any, out: Path) -> None:
    """Write a report and show it."""
    files = report.write(out)
    typer.echo(report.markdown())
    typer.echo(f"wrote {', '.join(map(str, files))}")

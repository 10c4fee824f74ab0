"""``icebreaker eval``: parses, calls, prints; every heavy import waits inside its command."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["eval_app"]

eval_app = typer.Typer(
    help="Measure a model: JSON, a Markdown table and a plot in --out. Run again to go on where it stopped.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class QuestionSet(StrEnum):
    """Formats of question sets."""

    manifest = "manifest"
    llama = "llama"
    web = "web"
    trivia = "trivia"


Model = Annotated[str, typer.Option("--model", help="'mini', a bundle folder, or the official checkpoints folder.")]
LLMFolder = Annotated[Path | None, typer.Option("--llm", help="Hugging Face folder of the frozen LLM.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of reports and per-item results.")]
Split = Annotated[str, typer.Option(help="Split of the manifest; 'all' for the whole.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many items, evenly spread.")]
Seed = Annotated[int, typer.Option(help="Seed of all sampling and noise.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
DtypeName = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")]


@eval_app.command()
def sqa(
    questions: Annotated[Path, typer.Argument(help="The question set: a manifest, TSV or JSON.")],
    out: Out,
    kind: Annotated[QuestionSet, typer.Option("--set", help="Its format.")] = QuestionSet.manifest,
    audio: Annotated[Path | None, typer.Option(help="Folder of recordings of the questions.")] = None,
    voice: Annotated[list[str] | None, typer.Option(help="Synthesiser's voices for questions in writing.")] = None,
    written: Annotated[Path | None, typer.Option(help="Folder of text conversations: questions as written.")] = None,
    snr: Annotated[list[float] | None, typer.Option(help="Noise levels in dB beside quiet.")] = None,
    recogniser: Annotated[
        str | None, typer.Option(help="closed, pocketsphinx, a Whisper folder, or none (no A→S).")
    ] = None,
    split: Split = "test",
    limit: Limit = None,
    model: Model = "mini",
    llm: LLMFolder = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: DtypeName = "float32",
    threads: Threads = None,
) -> None:
    """Spoken question answering: T→T, A→T and A→S on the same questions, with one scorer."""
    from icebreaker.evaluation import question_sets
    from icebreaker.evaluation.recordings import HELD_OUT
    from icebreaker.evaluation.sqa import SqaConfig, evaluate_sqa

    name = recogniser or ("closed" if kind is QuestionSet.manifest else "pocketsphinx")
    config = SqaConfig(
        name=kind.value, snr_db=tuple(snr or ()), voices=tuple(voice or HELD_OUT),
        recogniser="" if name == "none" else name,
    )  # fmt: skip
    asked = question_sets.read_questions(kind.value, questions, audio=audio, split=_split(split), written=written)
    with _run("sqa", model, llm, out, seed, device, dtype, threads) as run:
        _finish(evaluate_sqa(run, question_sets.spread(asked, limit), config), out)


@eval_app.command()
def asr(
    manifest: Annotated[Path, typer.Argument(help="Manifest of recordings with texts.")],
    out: Out,
    chunk: Annotated[list[int] | None, typer.Option(help="Encoder frames in a chunk; 0: full context.")] = None,
    snr: Annotated[float | None, typer.Option(help="Noise level in dB; default: as recorded.")] = None,
    by_voice: Annotated[bool, typer.Option(help="A row for every voice.")] = True,
    split: Split = "test",
    limit: Limit = None,
    model: Model = "mini",
    llm: LLMFolder = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: DtypeName = "float32",
    threads: Threads = None,
) -> None:
    """Recognition by the alignment stage: WER and CER by chunk size and by voice."""
    from icebreaker.data.manifest import read_manifest
    from icebreaker.evaluation.asr import evaluate_asr
    from icebreaker.evaluation.question_sets import spread

    items = _some(spread(read_manifest(manifest, _split(split)), limit), manifest, split)
    with _run("asr", model, llm, out, seed, device, dtype, threads) as run:
        report = evaluate_asr(run, items, chunk or [4, 0], snr_db=snr, by_voice=by_voice)
        _finish(report, out)


@eval_app.command()
def speech(
    manifest: Annotated[Path, typer.Argument(help="Manifest of recordings in the assistant's voice, with texts.")],
    out: Out,
    top_k: Annotated[list[int] | None, typer.Option(help="How codes are drawn; default: 1 to 5.")] = None,
    recogniser: Annotated[str, typer.Option(help="pocketsphinx or a Whisper folder.")] = "pocketsphinx",
    mos: Annotated[str, typer.Option(help="dnsmos, a TorchScript file of UTMOS, or none.")] = "dnsmos",
    pesq: Annotated[bool, typer.Option(help="PESQ of the codec (needs the package pesq).")] = True,
    split: Split = "test",
    limit: Limit = None,
    model: Model = "mini",
    llm: LLMFolder = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: DtypeName = "float32",
    threads: Threads = None,
) -> None:
    """Speech out: error rates by an independent recogniser beside its own error, naturalness, and the codec's loss."""
    from icebreaker.data.manifest import read_manifest
    from icebreaker.evaluation.question_sets import spread
    from icebreaker.evaluation.speech import SpeechEvalConfig, evaluate_speech

    items = _some(spread(read_manifest(manifest, _split(split)), limit), manifest, split)
    config = SpeechEvalConfig(
        top_k=tuple(top_k or (1, 2, 3, 4, 5)), recogniser=recogniser, mos="" if mos == "none" else mos, pesq=pesq
    )
    with _run("speech", model, llm, out, seed, device, dtype, threads) as run:
        _finish(evaluate_speech(run, items, config), out)


@eval_app.command()
def latency(
    manifest: Annotated[Path, typer.Argument(help="Manifest of spoken questions.")],
    out: Out,
    turn_head: Annotated[bool, typer.Option("--turn-head", help="The state head ends the turn.")] = False,
    split: Split = "test",
    limit: Limit = 50,
    model: Model = "mini",
    llm: LLMFolder = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dtype: DtypeName = "float32",
    threads: Threads = None,
) -> None:
    """How long a user waits, by part: average, p50 and p90."""
    from icebreaker.data.manifest import read_manifest
    from icebreaker.evaluation.latency import evaluate_latency
    from icebreaker.evaluation.question_sets import spread

    questions = [item for item in read_manifest(manifest, _split(split)) if item.answer]
    with _run("latency", model, llm, out, seed, device, dtype, threads) as run:
        items = _some(spread(questions, limit), manifest, split)
        _finish(evaluate_latency(run, items, use_turn_head=turn_head), out)


def _split(split: str) -> str | None:
    return None if split == "all" else split


def _some(items: list[Any], manifest: Path, split: str) -> list[Any]:
    from icebreaker.errors import DataError

    if not items:
        raise DataError(f"{manifest}: nothing to measure in split {split!r}; choose another with --split, or 'all'")
    return items


@contextlib.contextmanager
def _run(
    name: str, model: str, llm: Path | None, out: Path, seed: int, device: str, dtype: str, threads: int | None
) -> Iterator[Any]:
    """The model, loaded as ``icebreaker talk`` loads it, and a progress bar."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from icebreaker.errors import ConfigError

    if dtype not in ("float32", "bfloat16", "float16"):
        raise ConfigError(f"expected --dtype float32, bfloat16 or float16, got {dtype!r}")
    import torch

    from icebreaker.evaluation.provenance import model_sha256
    from icebreaker.evaluation.run import Run
    from icebreaker.talking import load_dialogue

    if threads:
        torch.set_num_threads(threads)
    dialogue = load_dialogue(model, llm, device=device, dtype=dtype)
    facts = {"model": model, "sha256": model_sha256(model, llm), "device": device, "dtype": dtype}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=None)
        advance: Callable[[int, int], None] = lambda done, total: bar.update(task, completed=done, total=total)  # noqa: E731
        yield Run(dialogue=dialogue, model=facts, out=out, seed=seed, progress=advance)


def _finish(report: Any, out: Path) -> None:
    files = report.write(out)
    typer.echo(report.markdown())
    typer.echo(f"wrote {', '.join(map(str, files))}")

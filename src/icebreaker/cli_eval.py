"""``icebreaker eval``: parses, calls, prints; every heavy import waits inside its command."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from icebreaker.cli_target import Target, finish, measured, progress_bar, running

__all__ = ["Turns", "eval_app"]

eval_app = typer.Typer(
    help="Measure a model or a server: JSON, Markdown and a plot in --out. Run again to go on where it stopped.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class QuestionSet(StrEnum):
    """Formats of question sets."""

    manifest = "manifest"
    llama = "llama"
    web = "web"
    trivia = "trivia"


class Turns(StrEnum):
    """Who ends the user's turn."""

    model = "model"
    silence = "silence"


Split = Annotated[str, typer.Option(help="Split of the manifest; 'all' for the whole.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many items, evenly spread.")]
Voices = Annotated[list[str] | None, typer.Option("--voice", help="Only these voices of the manifest.")]
Open = Annotated[str, typer.Option("--recogniser", help="pocketsphinx, whisper, or a Whisper folder.")]
Mos = Annotated[str, typer.Option(help="dnsmos, a TorchScript file of UTMOS, or none.")]
Questions = Annotated[Path, typer.Argument(help="Manifest of spoken questions.")]


@eval_app.command()
@measured
def sqa(
    target: Target,
    questions: Annotated[Path, typer.Argument(help="The question set: a manifest, TSV or JSON.")],
    kind: Annotated[QuestionSet, typer.Option("--set", help="Its format.")] = QuestionSet.manifest,
    audio: Annotated[Path | None, typer.Option(help="Folder of recordings of the questions.")] = None,
    voice: Annotated[
        list[str] | None, typer.Option(help="Voices: synthesisers for questions in writing; a manifest's that count.")
    ] = None,
    written: Annotated[Path | None, typer.Option(help="Folder of text conversations: questions as written.")] = None,
    snr: Annotated[list[float] | None, typer.Option(help="Noise levels in dB beside quiet.")] = None,
    recogniser: Annotated[
        str | None, typer.Option(help="closed, pocketsphinx, whisper, a Whisper folder, or none (no A→S).")
    ] = None,
    split: Split = "test",
    limit: Limit = None,
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
    if kind is QuestionSet.manifest:
        asked = _of_voices(asked, voice, questions)
    asked = question_sets.spread(asked, limit)
    if kind is QuestionSet.manifest:
        _check_measured(questions, asked)
    with running(target, "sqa") as run:
        finish(evaluate_sqa(run, asked, config), target.out)


@eval_app.command()
@measured
def asr(
    target: Target,
    manifest: Annotated[Path, typer.Argument(help="Manifest of recordings with texts.")],
    chunk: Annotated[list[int] | None, typer.Option(help="Encoder frames in a chunk; 0: full context.")] = None,
    snr: Annotated[
        list[float] | None, typer.Option(help="Noise levels in dB beside the recordings as they are.")
    ] = None,
    voice: Voices = None,
    by_voice: Annotated[bool, typer.Option(help="A row for every voice.")] = True,
    beside: Annotated[
        list[str] | None, typer.Option(help="Recognisers that hear the same: pocketsphinx, whisper, a Whisper folder.")
    ] = None,
    split: Split = "test",
    limit: Limit = None,
) -> None:
    """Recognition by the alignment stage, or a server's input transcripts: WER and CER by chunk size and by voice."""
    from icebreaker.evaluation.asr import evaluate_asr

    items = _items(manifest, split, limit, voice)
    with running(target, "asr") as run:
        levels, others = tuple(snr or ()), tuple(beside or ())
        report = evaluate_asr(run, items, chunk or [4, 0], snr_db=levels, by_voice=by_voice, beside=others)
        finish(report, target.out)


@eval_app.command()
@measured
def speech(
    target: Target,
    manifest: Annotated[Path, typer.Argument(help="Manifest of recordings in the assistant's voice, with texts.")],
    top_k: Annotated[list[int] | None, typer.Option(help="How codes are drawn; default: 1 to 5.")] = None,
    recogniser: Open = "pocketsphinx",
    mos: Mos = "dnsmos",
    pesq: Annotated[bool, typer.Option(help="PESQ of the codec (needs the package pesq).")] = True,
    split: Split = "test",
    limit: Limit = None,
) -> None:
    """Speech out: error rates by an independent recogniser beside its own error, naturalness, and the codec's loss."""
    from icebreaker.evaluation.speech import SpeechEvalConfig, evaluate_speech

    items = _items(manifest, split, limit)
    config = SpeechEvalConfig(
        top_k=tuple(top_k or (1, 2, 3, 4, 5)), recogniser=recogniser, mos="" if mos == "none" else mos, pesq=pesq
    )
    with running(target, "speech") as run:
        finish(evaluate_speech(run, items, config), target.out)


@eval_app.command()
@measured
def latency(
    target: Target,
    manifest: Questions,
    turn_head: Annotated[
        bool, typer.Option("--turn-head", help="The system ends the turn, not the recording.")
    ] = False,
    split: Split = "test",
    limit: Limit = 50,
) -> None:
    """How long a user waits, by part: average, p50 and p90."""
    from icebreaker.evaluation.latency import evaluate_latency

    items = _items(manifest, split, limit, answered=True)
    with running(target, "latency", paced=True) as run:
        finish(evaluate_latency(run, items, use_turn_head=turn_head), target.out)


@eval_app.command()
@measured
def instruct(
    target: Target,
    instructions: Annotated[Path, typer.Argument(help="A manifest, or a JSON list as LLaMA-Omni has them.")],
    audio: Annotated[Path | None, typer.Option(help="Folder that the paths of a JSON list start from.")] = None,
    judge: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint, such as http://host/v1.")] = None,
    judge_model: Annotated[str, typer.Option(help="The judging model's name.")] = "gpt-4o",
    judge_key: Annotated[str | None, typer.Option(envvar="JUDGE_API_KEY", help="The judge's key.")] = None,
    omega: Annotated[
        list[float] | None, typer.Option(help="Unit chunk sizes (unit decoders only); inf: offline.")
    ] = None,
    recogniser: Open = "pocketsphinx",
    mos: Mos = "dnsmos",
    split: Split = "test",
    limit: Limit = None,
) -> None:
    """Instruction following by ear: S2TIF and S2SIF by a judge, ASR-WER, naturalness, latency, decoding time."""
    from icebreaker.evaluation.instruct import InstructConfig, evaluate_instruct
    from icebreaker.evaluation.instructions import read_instructions
    from icebreaker.evaluation.judge import OpenAIJudge
    from icebreaker.evaluation.question_sets import spread

    config = InstructConfig(recogniser=recogniser, mos="" if mos == "none" else mos, omegas=tuple(omega or ()))
    asked = spread(read_instructions(instructions, audio=audio, split=_split(split)), limit)
    if instructions.suffix == ".jsonl":
        _check_measured(instructions, asked)
    judging = OpenAIJudge(judge, judge_model, judge_key) if judge else None
    with running(target, "instruct") as run:
        finish(evaluate_instruct(run, asked, config, judging), target.out)


@eval_app.command()
@measured
def duplex(
    target: Target,
    scenes: Annotated[Path, typer.Argument(help="scenes.jsonl, as `icebreaker eval scenes` writes it.")],
    kind: Annotated[list[str] | None, typer.Option(help="Only scenes of these kinds.")] = None,
    turns: Annotated[Turns, typer.Option(help="Who ends the user's turn.")] = Turns.model,
    parallel: Annotated[int, typer.Option(min=1, help="Scenes played at once.")] = 1,
    recogniser: Open = "pocketsphinx",
    limit: Limit = None,
) -> None:
    """Both speak: turns, pauses, interruptions, backchannels, noise and echo, played in real time."""
    from icebreaker.errors import DataError
    from icebreaker.evaluation.duplex.evaluate import DuplexEvalConfig, evaluate_duplex
    from icebreaker.evaluation.duplex.scenes import KINDS, read_scenes
    from icebreaker.evaluation.question_sets import spread

    if unknown := sorted(set(kind or ()) - set(KINDS)):
        raise DataError(f"no kind of scene {unknown[0]!r}; there are {', '.join(KINDS)}")
    found = _some([each for each in read_scenes(scenes) if not kind or each.kind in kind], scenes, "all")
    config = DuplexEvalConfig(turns=turns.value, recogniser=recogniser, parallel=parallel)
    with running(target, "duplex", served=True) as run:
        finish(evaluate_duplex(run, run.system.engine, spread(found, limit), config), target.out)


@eval_app.command()
def scenes(
    questions: Annotated[Path, typer.Argument(help="Manifest of spoken questions, or Full-Duplex-Bench's folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of scenes.jsonl and its recordings.")],
    bench: Annotated[bool, typer.Option("--bench", help="Read Full-Duplex-Bench's folder.")] = False,
    source: Annotated[Path | None, typer.Option(help="Folder of other people's recordings, for babble.")] = None,
    per_kind: Annotated[int, typer.Option(min=1, help="Scenes of each kind.")] = 20,
    voice: Voices = None,
    split: Split = "test",
    seed: Annotated[int, typer.Option(help="Of every choice.")] = 0,
) -> None:
    """Build the scenes of `icebreaker eval duplex`."""
    from icebreaker.evaluation.duplex.bench_folder import import_bench
    from icebreaker.evaluation.duplex.build import BuildConfig, build_scenes

    if bench:
        made = import_bench(questions, out)
    else:
        items, talkers = _items(questions, split, None, voice, answered=True), _recordings(source)
        with progress_bar("scenes") as advance:
            config = BuildConfig(per_kind=per_kind, seed=seed)
            made = build_scenes(items, out, config, talkers=talkers, progress=advance)
    typer.echo(f"wrote {len(made)} scenes to {out / 'scenes.jsonl'}")


@eval_app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Folder of reports, searched through.")],
    page: Annotated[Path, typer.Option("--out", "-o", help="The page to write; pictures go beside it.")],
    runs: Annotated[Path | None, typer.Option(help="Folder of training runs, for learning curves.")] = None,
) -> None:
    """One page of all results, beside what others published."""
    from icebreaker.evaluation.results import write_results

    files = write_results(results, page, runs)
    typer.echo(f"wrote {', '.join(map(str, files))}")


def _split(split: str) -> str | None:
    return None if split == "all" else split


def _items(
    manifest: Path, split: str, limit: int | None, voices: list[str] | None = None, *, answered: bool = False
) -> list[Any]:
    from icebreaker.data.manifest import read_manifest
    from icebreaker.evaluation.question_sets import spread

    items = [item for item in read_manifest(manifest, _split(split)) if item.answer or not answered]
    items = spread(_of_voices(_some(items, manifest, split), voices, manifest), limit)
    _check_measured(manifest, items)
    return items


def _check_measured(manifest: Path, chosen: list[Any]) -> None:
    from icebreaker.data.manifest_check import check_measured

    check_measured(manifest, {each.id for each in chosen})


def _of_voices(items: list[Any], voices: list[str] | None, manifest: Path) -> list[Any]:
    from icebreaker.errors import DataError

    known = {item.voice for item in items}
    if missing := sorted(set(voices or ()) - known):
        raise DataError(f"{manifest}: no voice {missing[0]!r} in it; there are {', '.join(sorted(known))}")
    return [item for item in items if not voices or item.voice in voices]


def _some(items: list[Any], manifest: Path, split: str) -> list[Any]:
    from icebreaker.errors import DataError

    if not items:
        raise DataError(f"{manifest}: nothing to measure in split {split!r}; choose another with --split, or 'all'")
    return items


def _recordings(folder: Path | None) -> list[Path]:
    from icebreaker.errors import DataError
    from icebreaker.evaluation.question_sets import AUDIO_SUFFIXES

    found = [path for path in folder.rglob("*") if path.suffix in AUDIO_SUFFIXES] if folder else []
    if folder and not found:
        raise DataError(f"{folder}: expected recordings ({', '.join(AUDIO_SUFFIXES)}), found none")
    return found

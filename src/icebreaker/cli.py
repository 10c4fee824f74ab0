"""The command line: one executable. Parses, calls, prints; every heavy import waits inside its command."""

import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from icebreaker.cli_bench import bench_app
from icebreaker.cli_eval import eval_app
from icebreaker.cli_serve import serve
from icebreaker.cli_talk import give_answer, progress_message, say_text, talk_to_server
from icebreaker.errors import ConfigError, IcebreakerError

__all__ = ["app", "main"]

app = typer.Typer(
    name="icebreaker",
    help="Ears and a voice for any text LLM: speech in, speech out, LLM weights untouched.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts twice as fast
)
app.add_typer(eval_app, name="eval")
app.command()(serve)
app.add_typer(bench_app, name="bench")
USAGE, FAILURE = 2, 1  # exit codes


class Dtype(StrEnum):
    """Precision of the LLM and the speech models."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class DataKind(StrEnum):
    """What ``icebreaker data`` builds."""

    text = "text"
    questions = "questions"
    natural = "natural"
    sentences = "sentences"
    answers = "answers"
    human = "human"
    asides = "asides"
    words = "words"
    revoiced = "revoiced"
    features = "features"
    instruct_s2s = "instruct-s2s"


Model = Annotated[str, typer.Option("--model", help="'mini', a bundle folder, or the official checkpoints folder.")]
SpeechEncoder = Annotated[
    Path | None, typer.Option("--speech-encoder", help="Whisper file or folder, for the official LLaMA-Omni.")
]
Vocoder = Annotated[Path | None, typer.Option("--vocoder", help="Unit vocoder folder, for the official LLaMA-Omni.")]
LLMFolder = Annotated[Path | None, typer.Option("--llm", help="Hugging Face folder of the frozen LLM.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is done.")] = False,
) -> None:
    """Set up logging for every command."""
    level = logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)


@app.command()
def talk(
    question: Annotated[Path | None, typer.Argument(help="A recording; leave out to use the microphone.")] = None,
    model: Model = "mini",
    llm: LLMFolder = None,
    speech_encoder: SpeechEncoder = None,
    vocoder: Vocoder = None,
    omega: Annotated[
        int | None, typer.Option(min=0, help="LLaMA-Omni: units that wait before a chunk is spoken; 0: all of them.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the spoken answer to this WAV file.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object with texts and timings.")] = False,
    system: Annotated[str | None, typer.Option("--system", help="System prompt.")] = None,
    turn_head: Annotated[
        bool, typer.Option("--turn-head", help="Let the state head end the turn, not the end of the file.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all sampling.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the models.")] = Dtype.float32,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
    server: Annotated[str | None, typer.Option(help="Talk to a Realtime server, such as ws://host:8000.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="ICEBREAKER_API_KEY", help="The server's key; better in the variable.")
    ] = None,
) -> None:
    """Ask aloud, be answered aloud: a recorded question, or the microphone; by a model here or a server."""
    if question is None and json_:
        raise typer.BadParameter(
            "a conversation by microphone has no single answer; give a recording", param_hint="--json"
        )
    if out is not None:
        _check_writable(out)
    if server is not None:
        talk_to_server(server, api_key, model, question, system, turn_head, out, json_)
        return
    with progress_message("loading", quiet=json_):
        import torch

        from icebreaker import talking

        if threads:
            torch.set_num_threads(threads)
        dialogue = talking.load_dialogue(
            model, llm, device=device, dtype=dtype.value, system=system, speech_encoder=speech_encoder,
            vocoder=vocoder, omega=omega,
        )  # fmt: skip
    if question is None:
        talking.talk_by_microphone(dialogue, seed=seed, out=out, say=say_text)
        return
    with progress_message("listening", quiet=json_) as listened:

        def say(delta: str) -> None:
            listened()
            say_text(delta)

        answer = talking.answer_file(dialogue, question, seed=seed, use_turn_head=turn_head, say=None if json_ else say)
    give_answer(answer, out, json_)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="TOML file of one stage, such as configs/mini/encoder_ctc.toml.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="dotted.key=value, as many as you like.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all cores.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check data, hashes, memory and disk, take two steps, save nothing.")
    ] = False,
) -> None:
    """Run one training stage; run it again to resume where it stopped. For several processes start it with torchrun."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from icebreaker.training import stages
    from icebreaker.training.processes import is_main, processes

    if threads:
        import torch

        torch.set_num_threads(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with processes(), Progress(*columns, disable=not (sys.stderr.isatty() and is_main())) as bar:
        task = bar.add_task(config.stem, total=None)

        def advance(report: Any) -> None:
            bar.update(task, completed=report.step, total=report.total, description=report.line())

        def checked(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description="checking recordings")

        if not dry_run:
            stages.run(config, overrides or [], advance)
            return
        found, told = stages.rehearse(config, overrides or [], checked), is_main()
    for name, fact in found.facts.items() if told else ():
        typer.echo(f"{name:24}{fact}")
    for problem in found.problems:
        typer.echo(f"problem: {problem}", err=True)
    if found.problems:
        raise typer.Exit(FAILURE)


@app.command()
def data(
    kind: Annotated[DataKind, typer.Argument(help="What to build.")],
    source: Annotated[Path, typer.Option(help="Folder of the source texts and recordings.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Where it goes; what is there is kept and completed.")] = Path("runs/data"),
    config: Annotated[Path | None, typer.Option(help="TOML file; default: the mini model's.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the work over a Ray cluster, by default this machine.")] = (
        False
    ),
    ray_address: Annotated[str | None, typer.Option(help="The cluster: 'auto' or HOST:PORT; implies --ray.")] = None,
) -> None:
    """Build training data: texts, spoken questions and answers, human recordings; the InstructS2S recipe."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from icebreaker.data.spread import here, on_ray

    spread = on_ray(ray_address) if ray or ray_address else here
    if kind is DataKind.instruct_s2s:
        from icebreaker.training.instruct_s2s import run

        typer.echo(run(config or Path("configs/mini-llama-omni/instruct-s2s.toml"), source, out, spread))
        return
    from icebreaker.config import load_toml
    from icebreaker.data.build import DataConfig, build

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(kind.value, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        settings = load_toml(config or Path("configs/mini/data.toml"), DataConfig)
        part: Any = kind.value
        build(part, settings, source=source, out=out, progress=advance, spread=spread)


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(help="The official checkpoints folder, or a folder of training runs.")],
    out: Annotated[Path, typer.Argument(help="The bundle folder to write.")],
    llm: LLMFolder = None,
    settings: Annotated[Path | None, typer.Option(help="TOML file: how a trained bundle is to be used.")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store weights in float16.")] = False,
    embed_llm: Annotated[bool, typer.Option("--embed-llm", help="Copy the LLM into the bundle.")] = False,
    speech_encoder: SpeechEncoder = None,
    vocoder: Vocoder = None,
) -> None:
    """Turn official checkpoints, or the outputs of training, into one safetensors bundle."""
    with progress_message("converting"):
        from icebreaker.checkpoints import convert as conversion

        conversion.convert(
            model, out, llm=llm, settings=settings, half=half, embed_llm=embed_llm, speech_encoder=speech_encoder,
            vocoder=vocoder,
        )  # fmt: skip
    typer.echo(f"wrote {out}")


@app.command()
def unpack(
    bundle: Annotated[str, typer.Argument(help="'mini', 'mini-llama-omni', or a bundle folder.")],
    runs: Annotated[Path, typer.Argument(help="Where the folders of its stages go, such as runs/mini.")],
) -> None:
    """Turn a bundle back into folders of training stages, to train one of its parts further."""
    with progress_message("unpacking"):
        from icebreaker.checkpoints.find import find_model
        from icebreaker.checkpoints.unpack import unpack as unpack_bundle

        unpack_bundle(find_model(bundle), runs)
    typer.echo(f"wrote {runs}")


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="'mini', a bundle folder, or the official checkpoints folder.")] = "mini",
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    speech_encoder: SpeechEncoder = None,
    vocoder: Vocoder = None,
) -> None:
    """What is in a bundle: parts, sizes, hashes, model card."""
    from icebreaker.checkpoints import describe

    with progress_message("reading", quiet=json_):
        description = describe.describe(model, speech_encoder=speech_encoder, vocoder=vocoder)
    if json_:
        import json

        typer.echo(json.dumps(description))
    else:
        typer.echo(describe.render(description))


def main() -> None:
    """Entry point: errors a user can mend become one line and an exit code."""
    debug = "--debug" in sys.argv
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on small machines
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # loading has our own message
    try:
        app(standalone_mode=True)
    except IcebreakerError as error:
        if debug:
            raise
        _fail(str(error), USAGE if isinstance(error, ConfigError) else FAILURE)
    except Exception as error:  # out of memory on a device, a full disk, our own bugs: still one line
        if debug:
            raise
        _fail(f"{_first_line(error)} (run again with --debug for the traceback)", FAILURE)
    except KeyboardInterrupt:
        _fail("stopped", 130)


def _fail(message: str, code: int) -> None:
    typer.echo(f"icebreaker: {message}", err=True)
    raise SystemExit(code)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _check_writable(out: Path) -> None:
    """Before a minute of work is lost."""
    if out.is_dir() or not out.parent.is_dir():
        what = "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise typer.BadParameter(f"{out}: {what}; name a WAV file in an existing folder", param_hint="--out")

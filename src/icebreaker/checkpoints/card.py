"""The model card of a bundle, written from what the stages recorded. Measures nothing itself."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from torch import Tensor

from icebreaker.checkpoints.bundle import BundleConfig
from icebreaker.checkpoints.families import part_names

__all__ = ["StageRecord", "model_card"]

TRAINED = {
    "backbone": "the text LLM; frozen from here on",
    "encoder_ctc": "speech encoder, by CTC over characters",
    "adapter_ctc": "adapter alone, by CTC over the LLM's tokens",
    "ngram": "n-grams of what users say, counted; nothing is trained",
    "alignment": "encoder and adapter, through the frozen LLM and by CTC over its tokens",
    "spoken_qa": "prompt embeddings and turn head; all else frozen",
    "codec": "codes to waveform and back",
    "codec_lm": "text to codes",
    "codec_lm_prefix": "prefix layers on the LLM's hidden states; all else frozen",
    "units": "k-means on a layer of the encoder: what speech is spelled in",
    "speech_instruct": "adaptor; encoder frozen, the LLM too unless the stage tuned it",
    "unit_ctc": "LLM states to units, by CTC; all else frozen",
    "unit_vocoder": "units and how long each lasts, to waveform",
}
ARCHITECTURES = {
    "freeze-omni": "Freeze-Omni style speech-to-speech model (arXiv:2411.00774)",
    "llama-omni": "LLaMA-Omni style speech-to-speech model (arXiv:2409.06666)",
}
DATA = """\
- Text: conversations written by our own generator (`icebreaker data text`) from facts that are common knowledge; \
Apache-2.0, like the code. Beside them what people asked assistants in their own words: clinc/oos-eval and \
SimpleQuestions (both CC BY 3.0), with answers of ours.
- Sentences read aloud beside the questions and answers: clinc/oos-eval (CC BY 3.0), SLURP text (CC BY 4.0), Snips NLU \
benchmark (CC0), Synthetic-Persona-Chat (CC BY 4.0), SimpleQuestions (CC BY 3.0).
- Spoken questions: synthesised with espeak-ng (GPL-3.0 program, output free), flite and festival voices (free \
licences), and with Kokoro-82M and hibari (Apache-2.0), augmented with noise, room, gain, speed and band limits.
- Spoken answers: festival `cmu_us_slt_arctic_hts` (CMU ARCTIC, free licence), slowed by 12 %.
- Where a stage lists human recordings: speechocean762 (free for commercial and non-commercial purposes) and pieces of \
LibriSpeech train-clean-100 (CC BY 4.0) with transcripts of our own.
- Splits are by question and by voice, fixed by hash; figures are on questions and voices no speech stage saw."""
LIMITS = """\
A demonstration of the method, not an assistant: it answers the narrow questions its text LLM was trained on, in \
English, and makes things up elsewhere. One voice. Do not use it where a wrong answer matters."""


class StageRecord(NamedTuple):
    """A stage's name, its configuration, and the rows of its metrics.jsonl."""

    name: str
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]


def model_card(
    title: str,
    stages: Sequence[StageRecord],
    config: BundleConfig,
    weights: Mapping[str, Tensor],
    earlier: str = "",
) -> str:
    """Markdown: parts, stages with seeds and hours, data and licences, measured figures, limits.

    ``earlier`` is the card of a bundle that was trained on: what it says of stages that are not among ``stages`` stays.
    """
    sizes = {
        part: sum(value.numel() for name, value in weights.items() if name.startswith(f"{part}."))
        for part in part_names(config.model)
    }
    parts = "\n".join(f"| {part} | {count:,} |" for part, count in sizes.items())
    kept = [line for line in earlier.splitlines() if _stage_of(line) not in {stage.name for stage in stages}]
    rows = "\n".join([*_table("Stages", kept), *(_stage_row(stage) for stage in stages)])
    figures = "\n".join([*_table("Measured", kept), *(line for stage in stages for line in _figures(stage))])
    return f"""# {title}

A {ARCHITECTURES[config.family]}, trained end to end by Icebreaker's own recipes.
The LLM (`{config.llm.name}`, width {config.llm.width}) is frozen: sha256 `{config.llm.sha256}`.

## Parts

| part | parameters |
| --- | ---: |
{parts}

## Stages

| stage | what trains | steps | seed | batch data | hours |
| --- | --- | ---: | ---: | --- | ---: |
{rows}

Hours are wall-clock on a shared machine, one CPU thread a process; those of several processes are added.

## Data and licences

{DATA}

## Measured

Each stage's own last evaluation, on its validation split.

| stage | figure | value |
| --- | --- | ---: |
{figures}

## Limits

{LIMITS}
"""


def _table(section: str, lines: Sequence[str]) -> list[str]:
    """Rows of the table in one section of a card, without its head."""
    if f"## {section}" not in lines:
        return []
    rest = lines[lines.index(f"## {section}") + 1 :]
    body = takewhile(lambda line: not line.startswith("## "), rest)
    return [line for line in body if line.startswith("| ") and not line.startswith(("| stage |", "| --- |"))]


def _stage_of(line: str) -> str:
    return line.split(" | ")[0].removeprefix("| ") if line.startswith("| ") else ""


def _stage_row(stage: StageRecord) -> str:
    optim = stage.config.get("optim", {})
    steps = max((int(row.get("step", 0)) for row in stage.metrics), default=optim.get("steps", 0))
    hours = _seconds(stage.metrics) / 3600
    data = stage.config.get("data", "")
    where = data if isinstance(data, str) else ", ".join(str(v) for v in data.values() if isinstance(v, str))
    cells = (
        stage.name,
        TRAINED.get(stage.config.get("stage", stage.name), ""),
        steps,
        optim.get("seed", ""),
        where,
        f"{hours:.2f}",
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _seconds(metrics: Sequence[Mapping[str, Any]]) -> float:
    """Wall-clock of all runs, times the processes of each: the clock starts anew when a run is resumed."""
    total, newest = 0.0, 0.0
    for seconds in (float(row["seconds"]) * row.get("processes", 1) for row in metrics if "seconds" in row):
        if seconds < newest:
            total += newest
        newest = seconds
    return total + newest


def _figures(stage: StageRecord) -> list[str]:
    evaluations = [row["evaluation"] for row in stage.metrics if "evaluation" in row]
    final = stage.config.get("evaluation") or (evaluations[-1] if evaluations else {})
    return [
        f"| {stage.name} | {name} | {value:.4g} |" for name, value in final.items() if isinstance(value, int | float)
    ]

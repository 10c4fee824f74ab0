"""InstructS2S: from text instructions to spoken questions, spoken answers and their units (arXiv:2409.06666v2, 3.1).

    questions.jsonl    each instruction as it would be said, or why it is dropped        an LLM
    answers.jsonl      a short answer to be spoken, or why it is dropped                  an LLM
    speech.jsonl       both as FLAC in audio/: questions in many voices, answers in one   synthesisers
    units.jsonl        the answers' units and how long each lasts                         a feature model and k-means
    questions/manifest.jsonl, answers/manifest.jsonl, report.json                         for training; what was lost

Each step goes through the items in order and keeps a journal, so a killed run goes on where it was, and repeats only
what it was at: some replies, or some groups of sentences. Every choice depends on the seed and the item alone. Knows
nothing of feature models: units come from a function that is passed in.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from icebreaker.data.instruct_s2s_config import InstructS2SConfig, claim_folder
from icebreaker.data.instruct_s2s_speech import Units, extract, speak
from icebreaker.data.instruct_s2s_text import Writer
from icebreaker.data.instructions import Instruction, read_instructions
from icebreaker.data.journal import Journal
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.data.recording import Progress
from icebreaker.data.relations import split_of
from icebreaker.data.rewriting import ANSWER, QUESTION
from icebreaker.data.spread import Spread, here
from icebreaker.data.text_llm import TextLLM
from icebreaker.data.tts import Speaker

__all__ = ["InstructS2SConfig", "build_instruct_s2s"]


def build_instruct_s2s(
    config: InstructS2SConfig,
    source: Path,
    out: Path,
    *,
    units: Units | None = None,
    llm: TextLLM | None = None,
    progress: Callable[[str], Progress] = lambda step: lambda done, total: None,
    spread: Spread = here,
) -> dict[str, Any]:
    """Build or go on building the data under ``out``.

    Args:
        config: what to build.
        source: the folder that ``config.sources`` lie in.
        out: its folder; belongs to one configuration.
        units: the unit extractor, if units are wanted.
        llm: instead of the one that ``config`` names, loaded only if something is left to ask.
        progress: gives what is called with the items done and their total, for a step's name.
        spread: who does the work of every step. Journals and audio are written by this process alone.

    Returns:
        The report: items in, items out, and reasons with counts for every step.

    Raises:
        DataError: a source, the LLM's server or a synthesiser fails, or ``out`` was built with another configuration.
    """
    claim_folder(config, out)
    for voice in (*config.question_voices, config.answer_voice):
        Speaker(voice).check()
    items = read_instructions([source / name for name in config.sources], config.limit)
    writer = Writer(config, llm, spread)
    with (
        Journal(out / "questions.jsonl") as questions,
        Journal(out / "answers.jsonl") as answers,
        Journal(out / "speech.jsonl") as speech,
        Journal(out / "units.jsonl") as unit_rows,
    ):
        writer.rewrite(items, questions, progress("questions"))
        asked = _kept(questions, items)
        writer.answer(asked, answers, progress("answers"))
        answered = _kept(answers, asked)
        speak(config, answered, out, speech, progress("speech"), spread)
        spoken = _kept(speech, answered)
        if units is not None:
            extract(units, spoken, out, unit_rows, progress("units"), spread)
        _write_manifests(out, spoken)
        return _report(out, items, {"questions": questions, "answers": answers, "speech": speech}, spoken)


def _kept(journal: Journal, items: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows of ``items`` that were not dropped, in the items' order."""
    names = [item["id"] if isinstance(item, Mapping) else item.id for item in items]
    return [journal.rows[name] for name in names if "dropped" not in journal.rows[name]]


def _write_manifests(out: Path, rows: list[dict[str, Any]]) -> None:
    """Both sides as ``data.manifest`` has them; splits go by the hash of the question."""
    for kind, text, answer in (("question", QUESTION, ANSWER), ("answer", ANSWER, None)):
        items = [
            Item(
                id=row["id"], audio=out / "audio" / f"{row['id']}-{kind}.flac", seconds=row[f"{kind}_seconds"],
                text=row[text], answer=row[answer] if answer else None, voice=row[f"{kind}_voice"],
                split=split_of(row[QUESTION]),
            )
            for row in rows
        ]  # fmt: skip
        write_manifest(out / f"{kind}s" / "manifest.jsonl", items)


def _report(
    out: Path, items: list[Instruction], journals: Mapping[str, Journal], spoken: list[dict[str, Any]]
) -> dict[str, Any]:
    """Count what each step was given and dropped, and write it beside the data."""
    names = {item.id for item in items}
    dropped = {
        step: dict(Counter(row["dropped"] for row in journal.rows.values() if "dropped" in row and row["id"] in names))
        for step, journal in journals.items()
    }
    report = {
        "instructions": len(items),
        "dropped": dropped,
        "spoken": len(spoken),
        "question_hours": round(sum(row["question_seconds"] for row in spoken) / 3600, 4),
        "answer_hours": round(sum(row["answer_seconds"] for row in spoken) / 3600, 4),
        "question_words": _mean(len(row[QUESTION].split()) for row in spoken),
        "answer_words": _mean(len(row[ANSWER].split()) for row in spoken),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def _mean(numbers: Iterable[int]) -> float:
    found = list(numbers)
    return round(sum(found) / len(found), 2) if found else 0.0

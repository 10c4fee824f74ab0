"""Instruction following by ear: is the reply good in writing (S2TIF) and as heard (S2SIF), and do the two agree?

The tables are LLaMA-Omni's (arXiv:2409.06666): marks by a judge, ASR-WER and ASR-CER of the speech against the reply's
own text, naturalness, latency and lagging words by unit chunk size Omega, decoding time an instruction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soxr

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.evaluation.instructions import Instruction
from icebreaker.evaluation.judge import Judge, Verdict
from icebreaker.evaluation.measures import error_counts, error_rates, spread_of
from icebreaker.evaluation.mos import MosPredictor, load_mos
from icebreaker.evaluation.published import DECODING_S, INSTRUCT, INSTRUCT_OMEGA
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, Recogniser, load_recogniser
from icebreaker.evaluation.recordings import HELD_OUT, recording_of
from icebreaker.evaluation.report import Cell, Chart, Curves, Panel, Report, Table
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.run_log import RunLog
from icebreaker.evaluation.systems import LocalModel, System
from icebreaker.evaluation.wording import words_of

__all__ = ["InstructConfig", "evaluate_instruct"]

AS_IS = "as it is"  # no Omega was asked for
MARKS = ("content", "style")
TASKS = {"S2TIF": "text", "S2SIF": "said"}
AFTER_TEXT = "first text to first sound"
SPREADS = ("first sound", AFTER_TEXT, "lagging words", "text s", "speech s", "words a second")


@dataclass(frozen=True, kw_only=True)
class InstructConfig:
    """Who listens and what is varied.

    Attributes:
        recogniser: ``pocketsphinx``, ``whisper`` or a Whisper folder.
        mos: ``dnsmos``, a TorchScript file of UTMOS, or "" for none.
        omegas: unit chunk sizes, for models whose speech decoder has them; none: as the model is.
        voice: synthesiser's voice for instructions without a recording.
    """

    recogniser: str = "pocketsphinx"
    mos: str = "dnsmos"
    omegas: tuple[float, ...] = ()
    voice: str = HELD_OUT[0]


def evaluate_instruct(
    run: Run, instructions: Sequence[Instruction], config: InstructConfig, judge: Judge | None = None
) -> Report:
    """Ask every instruction aloud, listen to the replies, have both forms of each judged.

    What the judge left unscored is asked again when the evaluation is run again; replies are not.
    """
    systems = _systems(run.system, config.omegas)
    recogniser, mos = load_recogniser(config.recogniser), load_mos(config.mos) if config.mos else None
    log = run.log("instruct", {"recogniser": config.recogniser, "mos": config.mos})
    replies: dict[str, list[dict[str, Any]]] = {name: [] for name in systems}
    total, done = len(systems) * len(instructions), 0
    for name, system in systems.items():
        for instruction in instructions:
            key = f"{name}|{instruction.id}|{instruction.audio}|{instruction.text}"
            if key not in log:
                log.add(key, _reply(run, name, system, instruction, config, recogniser, mos))
            replies[name].append(log[key])
            done += 1
            run.progress(done, total)
    marks = _marks(run, replies, judge) if judge is not None else {}
    return _report(run, config, recogniser.name, replies, marks, judge)


def _systems(system: System, omegas: Sequence[float]) -> dict[str, System]:
    if not omegas:
        return {AS_IS: system}
    if not isinstance(system, LocalModel):
        return {AS_IS: system}  # a server's own chunk size is its own affair
    return {f"{omega:g}": system.with_omega(omega) for omega in omegas}


def _reply(
    run: Run, name: str, system: System, instruction: Instruction, config: InstructConfig, recogniser: Recogniser,
    mos: MosPredictor | None,
) -> dict[str, Any]:  # fmt: skip
    audio = instruction.audio or recording_of(instruction.text, config.voice, run.out / "instructions")
    waveform = load_audio(audio, SAMPLE_RATE)
    answer = system.answer(waveform, seed=run.seed)
    at_16k = soxr.resample(answer.waveform, answer.sample_rate, RECOGNISER_RATE).astype(np.float32).clip(-1, 1)
    if len(at_16k):
        folder = run.out / "replies"
        folder.mkdir(parents=True, exist_ok=True)
        safe = "".join(letter if letter.isalnum() else "-" for letter in f"{instruction.id}-{name}")
        save_wav(folder / f"{safe}.wav", answer.waveform, answer.sample_rate)
    said, seconds = recogniser.transcribe(at_16k) if len(at_16k) else "", len(at_16k) / RECOGNISER_RATE
    spread: dict[str, float] = {"text s": answer.text_ms / 1000}
    if seconds:
        spread |= {
            "first sound": answer.latency_ms["first sound"],
            AFTER_TEXT: answer.latency_ms["first sound"] - answer.latency_ms["first text"],
            "lagging words": answer.lagging_words, "speech s": answer.total_ms / 1000,
            "words a second": len(words_of(answer.text).split()) / seconds,
        }  # fmt: skip
    return {
        "asked": instruction.text or recogniser.transcribe(waveform), "text": answer.text, "said": said,
        "spread": spread, "mos": mos.score(at_16k) if mos is not None else {},
        **error_counts(words_of(answer.text), said),
    }  # fmt: skip


def _marks(
    run: Run, replies: Mapping[str, Sequence[Mapping[str, Any]]], judge: Judge
) -> dict[tuple[str, str], list[Verdict]]:
    """A verdict for every reply as written and as heard; the same words are judged once."""
    log: RunLog = replace(run, model={}).log("instruct-marks", {"judge": judge.name})
    unscored: dict[str, Verdict] = {}
    marks: dict[tuple[str, str], list[Verdict]] = {}
    total, done = sum(len(rows) for rows in replies.values()) * len(TASKS), 0
    for name, rows in replies.items():
        for task, form in TASKS.items():
            for row in rows:
                key = f"{row['asked']}|{row[form]}"
                if key not in log and key not in unscored:
                    verdict = judge.mark(row["asked"], row[form] or "(nothing)")
                    if verdict.scored:
                        log.add(key, {mark: getattr(verdict, mark) for mark in MARKS})
                    else:
                        unscored[key] = verdict
                marks.setdefault((name, task), []).append(unscored[key] if key in unscored else Verdict(**log[key]))
                done += 1
                run.progress(done, total)
    return marks


def _report(
    run: Run, config: InstructConfig, recogniser: str, replies: Mapping[str, Sequence[Mapping[str, Any]]],
    marks: Mapping[tuple[str, str], Sequence[Verdict]], judge: Judge | None,
) -> Report:  # fmt: skip
    figures = {name: _figures(name, rows, marks) for name, rows in replies.items()}
    facts = run.facts({
        "recogniser": recogniser, "mos": config.mos or "none", "judge": judge.name if judge else "none",
        "instructions": len(next(iter(replies.values()))),
    })  # fmt: skip
    reasons = sorted({verdict.reason for verdicts in marks.values() for verdict in verdicts if not verdict.scored})
    unscored = sum(each["unscored"] for each in figures.values())
    notes = [
        "S2TIF: speech in, the reply's text judged. S2SIF: speech in, what the recogniser hears of the spoken reply "
        f"judged. Marks from 1 to 5 by {judge.name if judge else 'no judge (give --judge)'}. ASR-WER, ASR-CER: what "
        f"the recogniser ({recogniser}) hears against the reply's own text, pooled.",
        f"{unscored} replies stayed unscored and count nowhere{': ' + '; '.join(reasons[:3]) if reasons else ''}. "
        "Run the command again to ask for them.",
    ]
    tables = [_marks_table(figures, config), _omega_table(figures, config), _time_table(figures)]
    bars = {f"{name}, {task} {mark}": figures[name][task][mark] for name in figures for task in TASKS for mark in MARKS}
    chart: Chart | Curves = Chart("Instruction following", "mark, 1 to 5", bars if marks else {})
    if len(figures) > 1:
        chart, notes = omega_curves(figures, run.label or "this model"), [*notes, _trend(figures)]
    return Report("instruct", figures, facts, tables, notes, chart)


def _figures(
    name: str, rows: Sequence[Mapping[str, Any]], marks: Mapping[tuple[str, str], Sequence[Verdict]]
) -> dict[str, Any]:
    scales = sorted({scale for row in rows for scale in row["mos"]})
    figures: dict[str, Any] = {
        **error_rates(rows),
        "mos": {scale: _mean([row["mos"].get(scale) for row in rows]) for scale in scales},
        "replies": len(rows),
        "unscored": 0,
        **{each: spread_of([row["spread"][each] for row in rows if each in row["spread"]]) for each in SPREADS},
    }
    for task in TASKS:
        verdicts = marks.get((name, task), ())
        figures[task] = {mark: _mean([getattr(verdict, mark) for verdict in verdicts]) for mark in MARKS}
        figures[task]["scored"] = sum(verdict.scored for verdict in verdicts)
        figures["unscored"] += sum(not verdict.scored for verdict in verdicts)
    return figures


def _marks_table(figures: Mapping[str, Any], config: InstructConfig) -> Table:
    names = ("system", "S2TIF content", "style", "S2SIF content", "style", "ASR-WER %", "ASR-CER %", "unscored", "n")
    rows: list[list[Cell]] = [
        [
            name if name == AS_IS else f"Omega {name}",
            *[f[task][mark] for task in TASKS for mark in MARKS], f["wer"], f["cer"], f["unscored"], f["replies"],
        ]
        for name, f in figures.items()
    ]  # fmt: skip
    rows += [[f"{name} (published, GPT-4o)", *row, None, 199] for name, row in INSTRUCT.items()]
    return Table("Instruction following", names, rows)


def _omega_table(figures: Mapping[str, Any], config: InstructConfig) -> Table:
    scales = sorted({scale for f in figures.values() for scale in f["mos"]})
    names = (
        "Omega",
        "first sound, average ms",
        "after the first text, p50 ms",
        "lagging words",
        "ASR-WER %",
        "ASR-CER %",
        "words a second",
    )
    rows: list[list[Cell]] = [
        [
            name, f["first sound"]["average"], f[AFTER_TEXT]["p50"], f["lagging words"]["average"], f["wer"],
            f["cer"], f["words a second"]["average"], *[f["mos"].get(scale) for scale in scales],
        ]
        for name, f in figures.items()
    ]  # fmt: skip
    theirs = {"10": 1.82}
    rows += [
        [
            f"LLaMA-Omni, {omega} (UTMOS {utmos:g})",
            latency,
            None,
            theirs.get(omega),
            wer,
            None,
            rate,
            *[None] * len(scales),
        ]
        for omega, (latency, wer, utmos, rate) in INSTRUCT_OMEGA.items()
    ]
    return Table("By unit chunk size", (*names, *[f"{config.mos}: {scale}" for scale in scales]), rows)


def omega_curves(figures: Mapping[str, Any], label: str) -> Curves:
    """Wait, lagging words and errors by Omega, the published ones beside ours."""
    ticks = [*dict.fromkeys([*figures, *INSTRUCT_OMEGA])]
    ticks.sort(key=float)

    def line(values: Mapping[str, float]) -> list[tuple[int, float]]:
        return [(ticks.index(omega), value) for omega, value in values.items() if value == value]  # no NaN

    def panel(title: str, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Panel:
        return Panel(title, ticks, {label: line(ours), "LLaMA-Omni": line(theirs)})

    return Curves("Omega", [
        panel("First sound, ms", {name: f["first sound"]["average"] for name, f in figures.items()},
              {omega: row[0] for omega, row in INSTRUCT_OMEGA.items()}),
        panel("Lagging words", {name: f["lagging words"]["average"] for name, f in figures.items()}, {"10": 1.82}),
        panel("ASR-WER, %", {name: f["wer"] for name, f in figures.items()},
              {omega: row[1] for omega, row in INSTRUCT_OMEGA.items()}),
    ])  # fmt: skip


def _trend(figures: Mapping[str, Any]) -> str:
    """What changes from the smallest to the largest Omega, here and in the paper."""
    ends = [figures[name] for name in (min(figures, key=float), max(figures, key=float))]
    waits, lags, wers = (
        [each["first sound"]["average"] for each in ends], [each["lagging words"]["average"] for each in ends],
        [each["wer"] for each in ends],
    )  # fmt: skip
    return (
        f"From the smallest to the largest Omega: first sound {waits[0]:.0f} to {waits[1]:.0f} ms, lagging words "
        f"{lags[0]:.1f} to {lags[1]:.1f}, ASR-WER {wers[0]:.1f} to {wers[1]:.1f} %. In the paper (v2, 10 to infinity): "
        "236 to 1754 ms, 9.8 to 10.8 %, and UTMOS 3.23 to 3.93: later, smoother, hardly better understood."
    )


def _time_table(figures: Mapping[str, Any]) -> Table:
    rows: list[list[Cell]] = [
        [name, f["text s"]["average"], f["speech s"]["average"], f["replies"]] for name, f in figures.items()
    ]
    rows += [[f"{name} (published)", *row, None] for name, row in DECODING_S.items()]
    return Table("Decoding time an instruction", ("system", "S2TIF, s", "S2SIF, s", "n"), rows)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")

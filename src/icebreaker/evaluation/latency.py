"""How long a user waits, by part, in milliseconds: average, median, 90th percentile."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item
from icebreaker.evaluation.measures import spread_of
from icebreaker.evaluation.published import LATENCY_MS, LATENCY_SUM_MS
from icebreaker.evaluation.report import Chart, Report, Table
from icebreaker.evaluation.run import Run
from icebreaker.talking import Answer

__all__ = ["audible_from", "evaluate_latency", "parts_of_wait"]

AUDIBLE_DB = -40.0  # of the peak
USER_TO_SOUND = "user's last sound to first audible sample"


def evaluate_latency(run: Run, items: Sequence[Item], *, use_turn_head: bool = False) -> Report:
    """Answer ``items`` one after the other; the first answer only warms up. Needs a machine with nothing else to do."""
    log = run.log("latency", {"turn_head": use_turn_head})
    waits = list[dict[str, float]]()
    factors = dict[str, list[float]](listening=[], speaking=[])
    warm = False
    for number, item in enumerate(items, start=1):
        key = f"{item.id}|{item.audio}"
        if key not in log:
            question = load_audio(item.audio, SAMPLE_RATE)
            for _ in range(1 if warm else 2):
                answer = run.system.answer(question, seed=run.seed, use_turn_head=use_turn_head)
            warm = True
            result: dict[str, Any] = {
                "waits": parts_of_wait(answer, question),
                "listening": answer.listening_ms / 1000 / answer.question_s if answer.listening_ms else None,
                "speaking": answer.real_time_factor,
            }
            log.add(key, result)
        if log[key]["waits"]:  # an answer of nothing has no first sound
            waits.append(log[key]["waits"])
            for name, values in factors.items():
                values += [log[key][name]] if log[key][name] is not None else []  # a server's listening is its own
        run.progress(number, len(items))
    return _report(run, waits, factors, len(items), use_turn_head)


def parts_of_wait(answer: Answer, question: NDArray[np.float32]) -> dict[str, float]:
    """Each part's own milliseconds, their sum, and the wait from the end of the user's speech; {} without sound.

    The last one counts the silence that was heard after the user's last sound until the turn was decided, the time
    that its last chunk took, the sum, and the silence in front of the answer.
    """
    if "first sound" not in answer.latency_ms:
        return {}
    parts, before = dict[str, float](), 0.0
    for name, until in answer.latency_ms.items():
        parts[name], before = until - before, until
    parts["sum"] = before
    _, last_sound = _audible(question)
    chunk_ms = answer.listening_ms / max(1.0, answer.question_s / 0.16)
    silence_ms = max(0.0, answer.question_s * 1000 - last_sound * 1000 / SAMPLE_RATE)
    parts[USER_TO_SOUND] = silence_ms + chunk_ms + before + audible_from(answer.waveform) * 1000 / answer.sample_rate
    return parts


def audible_from(waveform: NDArray[np.float32]) -> int:
    """The first sample above -40 dB of the peak; 0 for silence."""
    return _audible(waveform)[0]


def _audible(waveform: NDArray[np.float32]) -> tuple[int, int]:
    magnitude = np.abs(waveform)
    loud = np.flatnonzero(magnitude > magnitude.max(initial=0.0) * 10 ** (AUDIBLE_DB / 20))
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, 0)


def _report(
    run: Run, waits: Sequence[dict[str, float]], factors: dict[str, list[float]], items: int, use_turn_head: bool
) -> Report:
    names = list(dict.fromkeys(name for wait in waits for name in wait))
    figures: dict[str, Any] = {name: spread_of([wait[name] for wait in waits if name in wait]) for name in names}
    figures["real-time factor"] = {name: spread_of(values) for name, values in factors.items()}
    rows = [
        [name, *[figures[name][each] for each in ("average", "p50", "p90")], LATENCY_MS.get(name)] for name in names
    ]
    for row in rows:
        if row[0] == "sum":
            row[-1] = LATENCY_SUM_MS["average"]
    ratios = [
        [name, *[figures["real-time factor"][name][each] for each in ("average", "p50", "p90")]] for name in factors
    ]
    tables = [
        Table("Latency by part, ms", ("part", "average", "p50", "p90", "Freeze-Omni, average"), rows, digits=1),
        Table("Computing time over time of sound", ("", "average", "p50", "p90"), ratios, digits=3),
    ]
    notes = [
        f"{len(waits)} of {items} questions were answered aloud. The turn is ended by the "
        f"{'state head' if use_turn_head else 'end of the recording'}; parts are counted from there and add up to the "
        f"sum. Freeze-Omni's sum: p50 {LATENCY_SUM_MS['p50']:g}, p90 {LATENCY_SUM_MS['p90']:g} ms, on a GPU.",
    ]
    facts = run.facts({"turn_head": use_turn_head, "questions": items})
    bars = {name: figures[name]["p50"] for name in names}
    return Report("latency", figures, facts, tables, notes, Chart("Latency by part, p50", "ms", bars))

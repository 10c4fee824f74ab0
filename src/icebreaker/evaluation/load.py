"""A load of real dialogues on a Realtime server: many sessions at once, in real time, with barge-ins.

Every session holds one conversation after the other: questions, and now and then one that interrupts the answer. What
is measured is what its user would notice: the wait for sound, gaps in it, how fast it stops, and failures.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from icebreaker.client.asking import Talker
from icebreaker.engine.messages import SessionConfig
from icebreaker.errors import ServerError
from icebreaker.evaluation.duplex.metrics import Word
from icebreaker.evaluation.duplex.play import play
from icebreaker.evaluation.duplex.played import Recording
from icebreaker.evaluation.duplex.scenes import Cue, Part, Scene
from icebreaker.evaluation.report import Cell, Chart, Report, Table

__all__ = ["LoadConfig", "Tally", "bear_load", "load_report"]

PERCENTILES = (50, 95, 99)
REFUSED_S = 1.0  # pause after a refusal before the session tries again
LOST_KEPT = 5  # reasons that are shown


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """How much, and how rude.

    Attributes:
        sessions: conversations at once.
        minutes: of real time; conversations that have begun are led to their end.
        barge_in: share of questions that interrupt the answer before them.
        exchanges: questions in one conversation; then the next one begins.
        turns: who ends the user's turn: ``model`` or ``silence``.
        ramp_s: over which the sessions begin.
        seed: of every choice.
    """

    sessions: int = 8
    minutes: float = 1.0
    barge_in: float = 0.3
    exchanges: int = 4
    turns: str = "model"
    ramp_s: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sessions < 1 or self.minutes <= 0 or self.exchanges < 1 or not 0 <= self.barge_in <= 1:
            raise ValueError(f"expected sessions, minutes and exchanges above 0 and a share of barge-ins, got {self}")


@dataclass
class Tally:
    """What all sessions met; milliseconds throughout.

    Attributes:
        first_audio_ms: from the system's word that the turn is over to the arrival of the first sound.
        user_to_sound_ms: from the end of the user's speech to the first audible sample.
        stop_ms: from the first sound of an interruption to silence.
        replies, questions, conversations: how many.
        unanswered: questions after which no sound came.
        underruns: gaps within replies.
        failures: errors the system reported.
        lost: conversations that could not begin or were cut off, by reason.
    """

    first_audio_ms: list[float] = field(default_factory=list)
    user_to_sound_ms: list[float] = field(default_factory=list)
    stop_ms: list[float] = field(default_factory=list)
    replies: int = 0
    questions: int = 0
    conversations: int = 0
    unanswered: int = 0
    underruns: int = 0
    failures: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def add(self, recording: Recording) -> None:
        """Count one conversation."""
        self.conversations += 1
        self.underruns += recording.underruns
        self.failures += len(recording.failures)
        replies = [reply for reply in recording.replies if reply.arrived_s is not None]
        self.replies += len(replies)
        self.first_audio_ms += [1000 * (reply.arrived_s - reply.decided_s) for reply in replies if reply.arrived_s]
        starts = [part.speech.start_s for part in recording.parts[1:]]
        for part, until_s in zip(recording.parts, [*starts, float("inf")], strict=True):
            self._add_question(recording, part.speech.start_s, part.speech.end_s, until_s)

    def _add_question(self, recording: Recording, start_s: float, end_s: float, until_s: float) -> None:
        self.questions += 1
        answers = [
            reply.audible_s
            for reply in recording.replies
            if reply.audible_s is not None and start_s < reply.created_s < until_s
        ]
        if answers:
            self.user_to_sound_ms.append(1000 * max(0.0, min(answers) - end_s))
        else:
            self.unanswered += 1
        for reply in recording.replies:
            if reply.sounding is not None and reply.sounding.start_s < start_s < reply.sounding.end_s:
                self.stop_ms.append(1000 * (reply.sounding.end_s - start_s))


async def bear_load(
    talker: Talker,
    recordings: Sequence[Path],
    config: LoadConfig,
    progress: Callable[[float], None] = lambda share: None,
) -> Tally:
    """Keep ``config.sessions`` conversations going for ``config.minutes``, asking from ``recordings``.

    Args:
        talker: the server.
        recordings: files with one question each.
        config: how much.
        progress: called with the share of the time that has passed.

    Raises:
        ServerError: not one conversation could be held.
    """
    tally, questions = Tally(), [_question(path) for path in recordings]
    clock = asyncio.get_running_loop().time
    until = clock() + 60 * config.minutes
    sessions = [
        asyncio.create_task(_session(talker, number, questions, config, until, tally))
        for number in range(config.sessions)
    ]
    try:
        while not all(session.done() for session in sessions):
            progress(min(1.0, 1 - (until - clock()) / (60 * config.minutes)))
            await asyncio.wait(sessions, timeout=1.0)
        for session in sessions:
            session.result()
    finally:
        for session in sessions:
            session.cancel()
    if not tally.conversations:
        raise ServerError(f"no conversation could be held: {'; '.join(tally.lost) or 'time was too short'}")
    return tally


async def _session(
    talker: Talker, number: int, questions: Sequence[Part], config: LoadConfig, until: float, tally: Tally
) -> None:
    rng = random.Random(f"{config.seed}|{number}")
    session = SessionConfig(turns=config.turns, seed=number)  # type: ignore[arg-type]
    await asyncio.sleep(config.ramp_s * number / config.sessions)
    while asyncio.get_running_loop().time() < until:
        try:
            tally.add(await play(talker, _conversation(rng, questions, config), session))
        except ServerError as error:
            tally.lost[str(error)] += 1
            await asyncio.sleep(REFUSED_S)


def _conversation(rng: random.Random, questions: Sequence[Part], config: LoadConfig) -> Scene:
    parts = [_cued(rng.choice(questions), Cue(at_s=rng.uniform(0.2, 0.8)))]
    for _ in range(config.exchanges - 1):
        rude = rng.random() < config.barge_in
        cue = Cue(speaking_s=rng.uniform(0.4, 1.0)) if rude else Cue(silent_s=rng.uniform(0.4, 1.2))
        parts.append(_cued(rng.choice(questions), cue))
    return Scene(id="load", kind="turn", parts=tuple(parts), tail_s=8.0)


def _cued(part: Part, cue: Cue) -> Part:
    return Part(role=part.role, audio=part.audio, words=part.words, cue=cue)


def _question(path: Path) -> Part:
    """Where its sound begins and ends is known to the recording's level alone; margins of it are silence."""
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    level = np.abs(waveform.mean(axis=1))
    loud = np.flatnonzero(level > 0.01 * level.max(initial=0.0))
    bounds = (loud[0] / rate, (loud[-1] + 1) / rate) if len(loud) else (0.0, len(level) / rate)
    return Part(role="question", audio=path, words=(Word("", float(bounds[0]), float(bounds[1])),))


def load_report(tally: Tally, config: LoadConfig, facts: Mapping[str, Any]) -> Report:
    """Percentiles and counts."""
    waits = {
        "turn decided to first audio, ms": tally.first_audio_ms,
        "user's last sound to first audible sample, ms": tally.user_to_sound_ms,
        "barge-in to silence, ms": tally.stop_ms,
    }
    figures: dict[str, Any] = {name: _percentiles(values) for name, values in waits.items()}
    counts = {name: getattr(tally, name) for name in COUNTS}
    figures |= {**counts, "lost": dict(tally.lost)}
    rows: list[list[Cell]] = [
        [name, *[figures[name][f"p{percent}"] for percent in PERCENTILES], len(values)]
        for name, values in waits.items()
    ]
    tables = [
        Table(f"{config.sessions} sessions at once", ("wait", "p50", "p95", "p99", "n"), rows, digits=0),
        Table("Counts", ("what", "how many"), [*([*each] for each in counts.items()), ["lost", tally.lost.total()]]),
    ]
    notes = [
        "Waits are the client's, over the socket. An underrun is a gap within a reply as it plays, behind a buffer "
        "of 80 ms, while the user says nothing: when he speaks, the assistant may hold its breath."
    ]
    notes += [f"{count} conversations lost: {reason}" for reason, count in tally.lost.most_common(LOST_KEPT)]
    bars = {name: figures[name]["p95"] for name in waits}
    return Report("load", figures, {**facts, **asdict(config)}, tables, notes, Chart("Under load, p95", "ms", bars))


COUNTS = ("conversations", "questions", "replies", "unanswered", "underruns", "failures")


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, PERCENTILES) if values else [float("nan")] * len(PERCENTILES)
    return {f"p{percent}": float(value) for percent, value in zip(PERCENTILES, found, strict=True)}

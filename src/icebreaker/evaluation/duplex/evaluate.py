"""The duplex evaluation: plays scenes to a system, several at once if wanted, scores them, reports."""

import asyncio
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.client.asking import Talker
from icebreaker.data.aside import written_aside
from icebreaker.engine.messages import SessionConfig
from icebreaker.evaluation.duplex.metrics import Word
from icebreaker.evaluation.duplex.play import play
from icebreaker.evaluation.duplex.played import Recording
from icebreaker.evaluation.duplex.report import duplex_report
from icebreaker.evaluation.duplex.scenes import Scene
from icebreaker.evaluation.duplex.score import score
from icebreaker.evaluation.duplex.words import timed_words
from icebreaker.evaluation.recognisers import Recogniser, load_recogniser
from icebreaker.evaluation.report import Report
from icebreaker.evaluation.run import Run

__all__ = ["DuplexEvalConfig", "evaluate_duplex"]


@dataclass(frozen=True, kw_only=True)
class DuplexEvalConfig:
    """How to play and who listens.

    Attributes:
        turns: who ends the user's turn: ``model`` (semantic_vad) or ``silence`` (server_vad).
        recogniser: of the assistant's channel: ``pocketsphinx`` or a Whisper folder.
        parallel: scenes played at once; more is faster and loads the system more.
    """

    turns: str = "model"
    recogniser: str = "pocketsphinx"
    parallel: int = 1

    def __post_init__(self) -> None:
        if self.turns not in ("model", "silence") or self.parallel < 1:
            raise ValueError(f"expected turns model or silence and parallel of 1 or more, got {self}")


def evaluate_duplex(run: Run, talker: Talker, scenes: Sequence[Scene], config: DuplexEvalConfig) -> Report:
    """Play ``scenes`` in real time and score them; a run that was stopped goes on where it was.

    Raises:
        ServerError: the system went away; what was played is kept.
        DataError: the disk is full; what was played and written before is kept, the same command goes on from there.
    """
    log = run.log("duplex", {"turns": config.turns, "recogniser": config.recogniser})
    recogniser = load_recogniser(config.recogniser)
    waiting = [scene for scene in scenes if _key(scene) not in log]
    done = len(scenes) - len(waiting)
    session = SessionConfig(turns=config.turns, seed=run.seed)  # type: ignore[arg-type]
    for start in range(0, len(waiting), config.parallel):
        run.progress(done, len(scenes))
        group = waiting[start : start + config.parallel]
        played = asyncio.run(_play_all(talker, group, session))
        for scene, recording in zip(group, played, strict=True):
            if isinstance(recording, Recording):  # what was played is kept, whatever became of the others
                log.add(_key(scene), _heard(run.out / "duplex" / log.digest, scene, recording, recogniser))
                done += 1
        for failure in played:
            if isinstance(failure, BaseException):
                raise failure
    run.progress(done, len(scenes))
    results = [(scene, log[_key(scene)]) for scene in scenes]
    facts = run.facts({**asdict(config), "scenes": len(scenes)})
    return duplex_report(results, facts, recogniser.name)


async def _play_all(talker: Talker, scenes: Sequence[Scene], session: SessionConfig) -> list[Recording | BaseException]:
    """At once; nothing else is done meanwhile, because times are being measured."""
    return await asyncio.gather(*(play(talker, scene, session) for scene in scenes), return_exceptions=True)


def _heard(folder: Path, scene: Scene, recording: Recording, recogniser: Recogniser) -> dict[str, Any]:
    words = timed_words(recogniser, recording.assistant, recording.sample_rate)
    _keep(folder, scene, recording, words)
    return score(scene, recording, words)


def _keep(folder: Path, scene: Scene, recording: Recording, words: Sequence[Word]) -> None:
    """Both channels (left the user, right the assistant) with all times beside them, to be listened to.

    Raises:
        DataError: the disk is full; nothing half-written stays.
    """
    user = np.asarray(soxr.resample(recording.user, SAMPLE_RATE, recording.sample_rate), dtype=np.float32)
    both = np.stack([np.resize(np.pad(each, (0, len(recording.assistant))), len(recording.assistant))
                     for each in (user, recording.assistant)], axis=1)  # fmt: skip
    encoded = io.BytesIO()
    soundfile.write(encoded, both.clip(-1, 1), recording.sample_rate, format="FLAC", subtype="PCM_16")
    with written_aside(folder / f"{scene.id}.flac") as aside:
        aside.write_bytes(encoded.getvalue())
    times: Mapping[str, Any] = {
        "scene": scene.id, "kind": scene.kind, "parts": [asdict(part) for part in recording.parts],
        "replies": [{**{name: value for name, value in vars(reply).items() if name != "sound"}}
                    for reply in recording.replies],
        "assistant_words": words, "failures": recording.failures,
    }  # fmt: skip
    with written_aside(folder / f"{scene.id}.json") as aside:
        aside.write_text(json.dumps(times, indent=1, ensure_ascii=False) + "\n")


def _key(scene: Scene) -> str:
    return f"{scene.id}|{scene.kind}|{scene.about}|{scene.parts[0].audio.name}|{scene.echo}"

"""Scenes with the scripted engine, which can ask for a pause: who interrupts meets silence, who agrees a pause."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from instant_talker import run_instantly

from icebreaker.engine.messages import SessionConfig
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.scripted_answer import heard_letters
from icebreaker.evaluation.duplex.metrics import Word
from icebreaker.evaluation.duplex.play import play
from icebreaker.evaluation.duplex.played import Recording
from icebreaker.evaluation.duplex.scenes import Cue, Part, Scene
from icebreaker.evaluation.duplex.score import score

ANSWER = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda"  # 3.8 s
CONFIG = SessionConfig(turns="silence", silence_ms=300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, ms in (("question", 400), ("agreement", 150), ("interruption", 700)):
        soundfile.write(tmp_path / f"{name}.wav", 0.4 * np.sin(np.arange(16 * ms) / 9), 16_000)
    return tmp_path


def part(folder: Path, role: str, ms: int, **cue: float) -> Part:
    return Part(role=role, audio=folder / f"{role}.wav", words=(Word("x", 0.0, ms / 1000),), cue=Cue(**cue))


async def played(scene: Scene) -> Recording:
    engine = ScriptedEngine(lambda items, config: ANSWER, lead_s=0.15, confirm_ms=640)
    return await play(engine, scene, CONFIG)


def test_who_interrupts_meets_silence_at_once_and_what_was_heard_is_remembered(folder: Path) -> None:
    parts = (part(folder, "question", 400, at_s=0.1), part(folder, "interruption", 700, speaking_s=0.8))
    scene = Scene(id="cut", kind="interruption", parts=parts, tail_s=0.3)
    recording = run_instantly(played(scene))
    figures = score(scene, recording, [])
    assert figures["silence_s"] < 0.2, "it heard 640 ms before it was sure"
    (reply,) = [reply for reply in recording.replies if reply.stopped_s is not None]
    assert 700 < reply.heard_ms < 1100
    assert reply.stopped_s - recording.parts[1].start_s > 0.6
    assert reply.kept == ANSWER[: heard_letters(ANSWER, reply.heard_ms)]
    assert recording.underruns == 0


def test_who_agrees_makes_a_pause_and_every_sample_is_heard(folder: Path) -> None:
    parts = (part(folder, "question", 400, at_s=0.1), part(folder, "agreement", 150, speaking_s=0.8))
    scene = Scene(id="agreed", kind="backchannel", parts=parts, tail_s=6.0)
    recording = run_instantly(played(scene))
    (reply,) = recording.replies
    assert (reply.stopped_s, reply.status) == (None, "completed")
    assert reply.heard_ms == pytest.approx(60 * len(ANSWER))
    quiet = np.abs(reply.sound) < 1e-3
    begins, ends = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]]))).reshape(-1, 2).T
    pauses = [(begin, end) for begin, end in zip(begins, ends, strict=True) if end - begin > 2400]
    assert len(pauses) == 1
    (begin, end) = pauses[0]
    assert 0.3 < (end - begin) / 24_000 < 0.7
    whole = np.concatenate([reply.sound[:begin], reply.sound[end:]])
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(len(whole) + 2) / 24_000)
    assert min(np.abs(whole - tone[i : i + len(whole)]).max() for i in range(3)) < 0.02, "not one is lost or twice"
    assert recording.underruns == 0

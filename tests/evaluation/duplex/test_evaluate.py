"""Scenes played to systems whose manners a test chooses: in time that passes at once, and over a socket."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from instant_talker import InstantTalker, run_instantly
from small_realtime import SmallRealtime

from icebreaker.client.remote import RemoteEngine
from icebreaker.engine.messages import SessionConfig
from icebreaker.errors import DataError, ServerError
from icebreaker.evaluation.duplex.evaluate import DuplexEvalConfig, evaluate_duplex
from icebreaker.evaluation.duplex.metrics import Word
from icebreaker.evaluation.duplex.play import play
from icebreaker.evaluation.duplex.played import Recording
from icebreaker.evaluation.duplex.scenes import Cue, Echo, Part, Scene, write_scenes
from icebreaker.evaluation.duplex.score import score
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.systems import Server

SPOKEN_MS = 400


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "said.wav"
    soundfile.write(path, 0.4 * np.sin(np.arange(16 * SPOKEN_MS) / 9), 16_000)
    return path


def said(audio: Path, role: str = "question", **cue: float) -> Part:
    return Part(role=role, audio=audio, words=(Word("x", 0.0, SPOKEN_MS / 1000),), cue=Cue(**cue))


def played(talker: InstantTalker, *scenes: Scene) -> list[Recording]:
    return [run_instantly(play(talker, scene, SessionConfig())) for scene in scenes]


def test_turns_pauses_and_barge_ins_are_played_in_time(audio: Path) -> None:
    turn = Scene(id="turn", kind="turn", parts=(said(audio, at_s=0.1),))
    pause = Scene(id="pause", kind="pause", parts=(said(audio, at_s=0.0), said(audio, "rest", at_s=0.9)))
    cut = Scene(
        id="cut", kind="interruption", parts=(said(audio, at_s=0.1), said(audio, "interruption", speaking_s=0.5))
    )
    answered, paused, interrupted = played(InstantTalker(reply_ms=1500), turn, pause, cut)
    figures = score(turn, answered, [Word("w", 0.9, 2.2)])
    assert (figures["tor"], figures["underruns"]) == (True, 0)
    assert figures["latency_s"] == pytest.approx(0.4)
    assert 0.2 <= figures["sound_s"] <= 0.25  # 200 ms of silence, and it hears by frames
    assert figures["replies"] == ["the capital of france is paris"]
    reply = answered.replies[0]
    assert (reply.heard_ms, reply.stopped_s, reply.status) == (1500.0, None, "completed")
    assert reply.sounding is not None
    channel = answered.assistant
    assert not channel[: int((reply.sounding.start_s - 0.01) * 24_000)].any()
    assert np.abs(channel[int((reply.sounding.start_s + 0.05) * 24_000) :][:2400]).max() == pytest.approx(0.3, abs=0.01)

    assert len(paused.replies) == 2  # 500 ms of pause are a turn's end to this server
    assert 0.9 <= paused.replies[0].stopped_s <= 0.95
    held = score(pause, paused, [Word("w", 0.7, 0.9), Word("w", 1.6, 2.8)])
    assert held["tor"] is False  # what it said in the pause is too short for a turn

    first, second = interrupted.replies
    assert 0 <= first.stopped_s - interrupted.parts[1].start_s <= 0.05
    assert 500 <= first.heard_ms <= 600
    assert first.kept == " ".join(["the", "capital", "of", "france", "is", "paris"][: int(first.heard_ms / 1500 * 6)])
    assert second.heard_ms == 1500.0
    end_s = interrupted.parts[1].speech.end_s
    figures = score(cut, interrupted, [Word("w", 0.5, 0.9), Word("w", end_s + 0.3, end_s + 1.5)])
    assert figures["tor"] is True
    assert figures["latency_s"] == pytest.approx(0.3)
    assert figures["met_speech"] is True
    assert 0 <= figures["silence_s"] <= 0.05
    assert figures["overlap_s"] == pytest.approx(min(figures["silence_s"], SPOKEN_MS / 1000))
    assert 0.2 <= figures["response_s"] <= 0.25
    assert figures["kept_is_beginning"] is True


def test_who_is_deaf_to_barge_in_goes_on(audio: Path) -> None:
    cut = Scene(
        id="cut", kind="interruption", tail_s=1.0,
        parts=(said(audio, at_s=0.0), said(audio, "interruption", speaking_s=0.3)),
    )  # fmt: skip
    (recording,) = played(InstantTalker(reply_ms=1500, deaf_to_barge_in=True), cut)
    figures = score(cut, recording, [Word("w", 0.7, 2.1)])
    assert figures["tor"] is False
    assert figures["silence_s"] > 1.1  # to the reply's end, and beyond: it answers right behind it
    assert figures["overlap_s"] == pytest.approx(SPOKEN_MS / 1000, abs=0.01)
    assert "history_right" not in figures


def test_echo_and_noise_fool_a_server_that_hears_by_level(audio: Path) -> None:
    echo = Scene(
        id="echo", kind="echo", parts=(said(audio, at_s=0.0),), tail_s=2.0, echo=Echo(delay_ms=100, level_db=-3)
    )
    soft = Scene(
        id="soft", kind="echo", parts=(said(audio, at_s=0.0),), tail_s=2.0, echo=Echo(delay_ms=100, level_db=-40)
    )
    noise = Scene(id="noise", kind="noise", parts=(Part(role="noise", audio=audio, cue=Cue(at_s=0.1)),), tail_s=1.0)
    back = Scene(
        id="back", kind="backchannel", parts=(said(audio, at_s=0.0), said(audio, "backchannel", speaking_s=0.2))
    )
    scenes = (echo, soft, noise, back)
    recordings = played(InstantTalker(reply_ms=800), *scenes)
    loud, quiet, disturbed, backed = (score(*pair, []) for pair in zip(scenes, recordings, strict=True))
    assert (loud["obeyed"], loud["answered"]) == (True, True)
    assert (quiet["obeyed"], quiet["answered"], quiet["tried"]) == (False, False, True)
    assert (disturbed["answered"], disturbed["obeyed"]) == (True, None)
    assert (backed["obeyed"], backed["answered"], backed["tried"]) == (True, True, True)


def test_a_full_disk_leaves_nothing_half_written(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = [Scene(id=f"turn-{n}", kind="turn", parts=(said(audio, at_s=0.0),)) for n in range(2)]
    write_bytes, written = Path.write_bytes, list[Path]()

    def full(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) < 2:
            return write_bytes(path, content)
        write_bytes(path, content[:100])
        raise OSError(28, "No space left on device")

    with SmallRealtime(reply_ms=300).running() as server:
        talker = RemoteEngine(server.address)
        run = Run(system=Server(talker), model={"model": "small"}, out=tmp_path)
        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"turn-1.flac: could not be written: .*free some disk space, run again"):
            evaluate_duplex(run, talker, scenes, DuplexEvalConfig())
        (folder,) = (tmp_path / "duplex").iterdir()
        assert sorted(path.name for path in folder.iterdir()) == ["turn-0.flac", "turn-0.json"]
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        assert evaluate_duplex(run, talker, scenes, DuplexEvalConfig()).figures["turn"]["scenes"] == 2
        assert server.sessions == 3  # the first was not played again
    with pytest.raises(DataError, match=r"scenes.jsonl: could not be written"):
        write_scenes(audio / "scenes.jsonl", scenes)  # below a file: no folder can be made


def test_a_lost_server_leaves_what_was_played_and_the_run_goes_on(audio: Path, tmp_path: Path) -> None:
    scenes = [Scene(id=f"turn-{n}", kind="turn", parts=(said(audio, at_s=0.0),), voice="v") for n in range(2)]
    with SmallRealtime(reply_ms=600).running() as server:
        talker = RemoteEngine(server.address)
        run = Run(system=Server(talker), model={"model": "small"}, out=tmp_path)
        server.drop_after = [1000, 5]  # the second conversation is lost
        with pytest.raises(ServerError, match="went away"):
            evaluate_duplex(run, talker, scenes, DuplexEvalConfig())
        report = evaluate_duplex(run, talker, scenes, DuplexEvalConfig(parallel=1))
        assert server.sessions == 3  # the first was not played again
    assert report.figures["turn"]["scenes"] == 2
    assert report.figures["turn"]["tor"]["percent"] == 0.0  # one unclear word of 0.6 s takes no turn
    page = report.markdown()
    assert "| turn: a complete turn | 0.00 |" in page
    assert "| Moshi | 0.985 | 0.980 | 0.941 |" in page
    (folder,) = (tmp_path / "duplex").iterdir()
    both, rate = soundfile.read(folder / "turn-0.flac")
    assert (both.shape[1], rate) == (2, 24_000)
    times = json.loads((folder / "turn-0.json").read_text())
    assert times["parts"][0]["role"] == "question"
    assert times["assistant_words"][0][0] == "(unclear)"

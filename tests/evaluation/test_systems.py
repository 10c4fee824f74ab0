"""Every evaluation against a Realtime server over a real socket: the same questions, the same scorer, and resuming."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_realtime import SmallRealtime
from typer.testing import CliRunner

from icebreaker.cli import app
from icebreaker.client.remote import RemoteEngine
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.errors import ConfigError, DataError, ServerError
from icebreaker.evaluation import systems
from icebreaker.evaluation.asr import evaluate_asr
from icebreaker.evaluation.latency import USER_TO_SOUND, evaluate_latency
from icebreaker.evaluation.question_sets import Question
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.sqa import SqaConfig, evaluate_sqa
from icebreaker.evaluation.systems import Server

REPLY = "the capital of france is paris"


@pytest.fixture
def server() -> Iterator[SmallRealtime]:
    with SmallRealtime(reply_ms=300).running() as running:
        yield running


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    soundfile.write(path, 0.4 * np.sin(np.arange(4800) / 9), 16_000)
    return path


def run_of(server: SmallRealtime, out: Path, **options: object) -> Run:
    system = Server(RemoteEngine(server.address, patience_s=3), waits_s=(), **options)
    return Run(system=system, model={"server": "small"}, out=out)


def questions(recording: Path) -> list[Question]:
    answers = {"a": "Paris", "b": "London", "c": "paris"}
    return [
        Question(id=name, text=f"{name}?", accepted=(answer,), audio=recording, voice=name)
        for name, answer in answers.items()
    ]


def test_sqa_keeps_what_it_has_when_the_server_goes_and_resumes(
    server: SmallRealtime, recording: Path, tmp_path: Path
) -> None:
    run, config = run_of(server, tmp_path / "out"), SqaConfig(recogniser="", snr_db=(10.0,))
    server.drop_after = [99, 99, 99, 99, 3]  # the second question aloud
    with pytest.raises(ServerError, match="went away in the middle"):
        evaluate_sqa(run, questions(recording), config)
    before = server.sessions
    report = evaluate_sqa(run, questions(recording), config)
    assert (before, server.sessions) == (5, 5 + 2 + 3)  # three in writing and one aloud were not asked again
    assert report.figures["writing | all | T→T"]["percent"] == pytest.approx(200 / 3)
    for condition in ("quiet", "10 dB"):
        assert report.figures[f"{condition} | all | A→T"]["percent"] == pytest.approx(200 / 3)
        assert report.figures[f"{condition} | b | A→T"]["percent"] == 0.0
    assert "| quiet | a | A→T | 100.00 |" in report.markdown()


def test_a_server_that_comes_back_is_asked_again(server: SmallRealtime) -> None:
    server.drop_after = [1, 1]
    system = Server(RemoteEngine(server.address, patience_s=3), waits_s=(0.01, 0.01))
    assert system.write("What?") == REPLY
    server.drop_after = [1, 1, 1]
    with pytest.raises(ServerError):
        system.write("What?")


def test_asr_scores_the_servers_transcripts(server: SmallRealtime, recording: Path, tmp_path: Path) -> None:
    server.transcript = "What is the capital of Spain?"
    item = Item(id="a", audio=recording, seconds=0.3, text="what is the capital of france", voice="v")
    report = evaluate_asr(run_of(server, tmp_path), [item], [4, 0])
    assert report.figures["as served | as recorded | all"]["wer"] == pytest.approx(100 / 6)
    assert list(report.figures) == ["as served | as recorded | all", "as served | as recorded | v"]


def test_latency_of_a_server_counts_from_the_users_end(server: SmallRealtime, recording: Path, tmp_path: Path) -> None:
    server.delay_s, server.silence_ms = 0.3, 200
    item = Item(id="a", audio=recording, seconds=0.3, text="a", answer="b", voice="v")
    run = run_of(server, tmp_path / "a", paced=True)
    figures = evaluate_latency(run, [item]).figures
    assert figures["sum"]["p50"] >= 290
    assert figures["first text"]["p50"] + figures["first sound"]["p50"] == pytest.approx(figures["sum"]["p50"])
    by_itself = evaluate_latency(run_of(server, tmp_path / "b", paced=True), [item], use_turn_head=True).figures
    assert by_itself["sum"]["p50"] >= 100
    assert by_itself[USER_TO_SOUND]["p50"] > by_itself["sum"]["p50"] + 100  # and the silence that it waited for
    assert by_itself["real-time factor"]["listening"]["count"] == 0


def test_commands_take_a_server(server: SmallRealtime, recording: Path, tmp_path: Path) -> None:
    item = Item(id="a", audio=recording, seconds=0.3, text="hello", answer=REPLY, voice="v", split="test")
    write_manifest(tmp_path / "m.jsonl", [item])
    out = tmp_path / "out"
    common = [str(tmp_path / "m.jsonl"), "--server", server.address, "--out", str(out)]
    for words in (["sqa"], ["asr", "--label", "small"], ["speech", "--mos", "none"], ["instruct", "--mos", "none"]):
        result = CliRunner().invoke(app, ["eval", *words[:1], *common, *words[1:]])
        assert result.exit_code == 0, result.output
    figures = json.loads((out / "sqa.json").read_text())["figures"]
    assert figures["quiet | all | A→T"]["percent"] == 100.0
    assert figures["quiet | all | A→S"]["percent"] == 0.0  # a tone is no answer
    facts = json.loads((out / "asr.json").read_text())["measured_with"]
    assert (facts["label"], facts["server"]) == ("small", server.address)
    speech = json.loads((out / "speech.json").read_text())["figures"]
    assert set(speech) == {"source voice", "server"}
    assert speech["server"]["wer"] == 100.0
    assert json.loads((out / "instruct.json").read_text())["figures"]["as it is"]["replies"] == 1


def test_voices_are_chosen_and_checked(server: SmallRealtime, recording: Path, tmp_path: Path) -> None:
    items = [
        Item(id=voice, audio=recording, seconds=0.3, text="hello", answer=REPLY, voice=voice, split="test")
        for voice in ("v", "w")
    ]
    write_manifest(tmp_path / "m.jsonl", items)
    common = ["eval", "sqa", str(tmp_path / "m.jsonl"), "--server", server.address, "--recogniser", "none"]
    result = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "o"), "--voice", "w"])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "o" / "sqa.json").read_text())["figures"]["quiet | w | A→T"]["count"] == 1
    missing = CliRunner().invoke(app, [*common, "--out", str(tmp_path / "o"), "--voice", "x"])
    assert isinstance(missing.exception, DataError)
    assert "there are v, w" in str(missing.exception)


def test_a_lost_server_is_one_line_that_says_how_to_go_on(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems.time, "sleep", lambda seconds: None)
    item = Item(id="a", audio=recording, seconds=0.3, text="hello", answer=REPLY, voice="v", split="test")
    write_manifest(tmp_path / "m.jsonl", [item])
    words = ["eval", "sqa", str(tmp_path / "m.jsonl"), "--server", "ws://127.0.0.1:9", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ServerError)
    assert "run the same command again to go on" in str(result.exception)


def test_a_servers_parts_are_out_of_reach(server: SmallRealtime, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give --model instead of --server"):
        _ = run_of(server, tmp_path).dialogue

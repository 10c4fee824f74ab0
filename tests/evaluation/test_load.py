import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from instant_talker import InstantTalker, run_instantly
from small_realtime import SmallRealtime
from typer.testing import CliRunner

from icebreaker.cli import app
from icebreaker.client.remote import RemoteEngine
from icebreaker.errors import ServerError
from icebreaker.evaluation.load import LoadConfig, bear_load, load_report


@pytest.fixture
def question(tmp_path: Path) -> Path:
    path = tmp_path / "q.wav"
    sound = np.concatenate([np.zeros(1600), 0.4 * np.sin(np.arange(4800) / 9), np.zeros(1600)])
    soundfile.write(path, sound, 16_000)
    return path


def test_sessions_talk_interrupt_and_are_counted(question: Path) -> None:
    config = LoadConfig(sessions=3, minutes=0.5, exchanges=3, barge_in=0.5, ramp_s=0.3, seed=1)
    tally = run_instantly(bear_load(InstantTalker(reply_ms=1500, delay_s=0.1), [question], config))
    assert tally.conversations >= 6
    assert tally.questions == tally.replies == 3 * tally.conversations
    assert (tally.unanswered, tally.failures, tally.underruns, tally.lost.total()) == (0, 0, 0, 0)
    assert all(wait == pytest.approx(100, abs=1) for wait in tally.first_audio_ms)
    assert all(299 <= wait <= 340 for wait in tally.user_to_sound_ms)  # 200 ms of silence, 100 of delay
    assert tally.stop_ms  # someone interrupted
    assert all(stop <= 41 for stop in tally.stop_ms)
    figures = load_report(tally, config, {}).figures
    assert figures["turn decided to first audio, ms"]["p95"] == pytest.approx(100, abs=1)
    assert figures["conversations"] == tally.conversations
    assert "## 3 sessions at once" in load_report(tally, config, {}).markdown()


def test_questions_without_an_answer_are_counted(question: Path) -> None:
    config = LoadConfig(sessions=1, minutes=0.01, exchanges=1)
    deaf = run_instantly(bear_load(InstantTalker(silence_ms=10**6), [question], config))
    assert (deaf.unanswered, deaf.replies) == (1, 0)


def test_lost_conversations_are_counted_and_others_go_on(question: Path) -> None:
    config = LoadConfig(sessions=1, minutes=0.03, exchanges=1)
    with SmallRealtime(reply_ms=200).running() as server:
        server.drop_after = [5]
        tally = asyncio.run(bear_load(RemoteEngine(server.address), [question], config))
    assert tally.conversations >= 1
    assert tally.lost.total() == 1
    assert "dropped on purpose" in next(iter(tally.lost))


def test_a_server_that_takes_nobody_is_an_error(question: Path) -> None:
    with SmallRealtime(api_key="k").running() as server, pytest.raises(ServerError, match="refused with status 401"):
        asyncio.run(bear_load(RemoteEngine(server.address), [question], LoadConfig(sessions=1, minutes=0.01)))


def test_bench_command(question: Path, tmp_path: Path) -> None:
    with SmallRealtime(reply_ms=200, api_key="k").running() as server:
        words = [
            "bench",
            "serve",
            "--url",
            server.address,
            "--api-key",
            "k",
            "--sessions",
            "2",
            "--minutes",
            "0.01",
            "--exchanges",
            "1",
        ]
        result = CliRunner().invoke(app, [*words, "--questions", str(question), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "load.json").read_text())["figures"]
    assert figures["conversations"] >= 1
    assert figures["lost"] == {}


@pytest.mark.parametrize("options", [{"sessions": 0}, {"minutes": 0}, {"barge_in": 1.5}, {"exchanges": 0}])
def test_impossible_loads(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected sessions"):
        LoadConfig(**options)

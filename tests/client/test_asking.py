import asyncio
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_realtime import SmallRealtime

from icebreaker.client.asking import answer_recording, ask_aloud, ask_in_writing, transcript_of
from icebreaker.client.remote import RemoteEngine
from icebreaker.engine.messages import SessionConfig
from icebreaker.errors import ServerError

TONE = (0.5 * np.sin(np.arange(4800) / 9)).astype(np.float32)  # 300 ms
REPLY = "the capital of france is paris"


def test_a_written_question_gets_text_alone() -> None:
    with SmallRealtime().running() as server:
        config = SessionConfig(turns="client", output="text")
        answer = asyncio.run(ask_in_writing(RemoteEngine(server.address), config, "What?", 10))
        (asked,) = [event for event in server.received if event["type"] == "conversation.item.create"]
    assert answer.text == REPLY
    assert len(answer.waveform) == 0
    assert asked["item"]["content"] == [{"type": "input_text", "text": "What?"}]


def test_a_spoken_question_is_timed_from_its_end() -> None:
    with SmallRealtime(delay_s=0.3).running() as server:
        config = SessionConfig(turns="client")
        answer = asyncio.run(ask_aloud(RemoteEngine(server.address), config, TONE, paced=True, patience_s=10))
    assert (answer.text, answer.heard) == (REPLY, server.transcript)
    assert len(answer.waveform) == 24_000 * 600 // 1000
    assert list(answer.latency_ms) == ["first text", "first sound"]
    assert answer.latency_ms["first sound"] >= 290
    assert answer.total_ms > answer.latency_ms["first sound"]
    assert answer.lagging_words == 6
    assert (answer.ended_by, answer.question_s) == ("end of file", 0.3)


def test_the_server_may_end_the_turn() -> None:
    with SmallRealtime(silence_ms=400).running() as server:
        answer = asyncio.run(
            ask_aloud(RemoteEngine(server.address), SessionConfig(turns="model"), TONE, paced=True, patience_s=10)
        )
        assert not any(event["type"] == "response.create" for event in server.received)
    assert answer.ended_by == "turn head"
    assert answer.question_s >= 0.68  # 300 ms of question, 400 of silence, in frames
    assert answer.latency_ms["first sound"] > 0


def test_what_the_server_heard() -> None:
    with SmallRealtime(transcript="hello there").running() as server:
        assert asyncio.run(transcript_of(RemoteEngine(server.address), TONE, 10)) == "hello there"


def test_a_server_without_an_answer_is_named() -> None:
    with SmallRealtime(delay_s=5).running() as server:
        config = SessionConfig(turns="client")
        with pytest.raises(ServerError, match=r"expected a complete reply, got none in 0\.4 s"):
            asyncio.run(ask_in_writing(RemoteEngine(server.address), config, "What?", 0.4))


def test_talk_to_a_server_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from icebreaker.cli import app

    soundfile.write(tmp_path / "q.wav", TONE, 16_000)
    with SmallRealtime(api_key="k").running() as server:
        arguments = ["talk", str(tmp_path / "q.wav"), "--server", server.address, "--out", str(tmp_path / "a.wav")]
        result = CliRunner().invoke(app, [*arguments, "--json"], env={"ICEBREAKER_API_KEY": "k"})
        assert result.exit_code == 0, result.output
        refused = CliRunner().invoke(app, arguments)
        spoken = answer_recording(RemoteEngine(server.address, "k"), tmp_path / "q.wav", SessionConfig(turns="client"))
    assert f'"text": "{REPLY}"' in result.output
    assert isinstance(refused.exception, ServerError)
    sound, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert rate == 24_000
    np.testing.assert_allclose(sound, spoken.waveform, atol=1e-4)

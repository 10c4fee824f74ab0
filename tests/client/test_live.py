"""A microphone conversation with a small Realtime server, the microphone and loudspeaker made of arrays."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from small_realtime import SmallRealtime

from icebreaker.client import live
from icebreaker.client.live import talk_live
from icebreaker.client.remote import RemoteEngine
from icebreaker.engine.messages import SessionConfig
from icebreaker.errors import AudioError

BLOCK = 2560
LOUD = (0.5 * np.sin(np.arange(BLOCK) / 9)).astype(np.float32)
QUIET = np.zeros(BLOCK, np.float32)


class Room:
    """A microphone that hears ``blocks`` in real time, and a loudspeaker that plays in real time."""

    def __init__(self, blocks: list[np.ndarray], unplugged: bool = False) -> None:
        self.blocks, self.unplugged = blocks, unplugged
        self.until, self.stopped = 0.0, list[float]()
        self.held_s: float | None = None  # since when
        self.holds = 0

    def __enter__(self) -> "Room":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            time.sleep(0.16)
            yield block
        if self.unplugged:
            raise AudioError("expected sound from the microphone, got none")

    @property
    def now(self) -> float:
        return time.perf_counter() if self.held_s is None else self.held_s

    def play(self, waveform: np.ndarray) -> None:
        self.until = max(self.until, self.now) + len(waveform) / 24_000

    @property
    def pending_s(self) -> float:
        return max(0.0, self.until - self.now)

    def hold(self) -> None:
        self.held_s = time.perf_counter()
        self.holds += 1

    def go_on(self) -> None:
        if self.held_s is not None:
            self.until += time.perf_counter() - self.held_s
            self.held_s = None

    def stop(self) -> float:
        pending, self.until, self.held_s = self.pending_s, 0.0, None
        self.stopped.append(pending)
        return pending


def in_room(monkeypatch: pytest.MonkeyPatch, room: Room) -> None:
    def device(*_: Any) -> Room:
        return room

    monkeypatch.setattr(live, "Microphone", device)
    monkeypatch.setattr(live, "Speaker", device)


def test_a_question_an_answer_and_an_interruption(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    room = Room([LOUD, LOUD, QUIET, QUIET, QUIET, QUIET, QUIET, LOUD, QUIET, QUIET])
    in_room(monkeypatch, room)
    said: list[str] = []
    with SmallRealtime(reply_ms=2000).running() as server:
        talk_live(RemoteEngine(server.address), SessionConfig(), say=said.append, out=tmp_path / "out.wav")
        (truncated,) = [event for event in server.received if event["type"] == "conversation.item.truncate"]
    assert "the capital of france is paris" in said
    assert f"\n[{server.transcript}]\n" in said
    assert len(room.stopped) == 1
    assert 0 < truncated["audio_end_ms"] < 2000
    sound, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 24_000
    assert len(sound) / 24 >= truncated["audio_end_ms"]  # all that came is kept, heard or not


def test_an_unplugged_microphone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    in_room(monkeypatch, Room([LOUD], unplugged=True))
    with SmallRealtime().running() as server, pytest.raises(AudioError, match="got none"):
        talk_live(RemoteEngine(server.address), SessionConfig())

"""What a process has freed between what it keeps, it gives back."""

import gc
import platform
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from icebreaker.engine.allocator import give_back
from icebreaker.engine.loop import GIVE_BACK_LATEST_S

MIB = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's: needs Linux with it")
def test_holes_between_what_is_kept_are_given_back() -> None:
    blocks = [bytearray(64 * 1024) for _ in range(1600)]  # 100 MiB in pieces too small for a mapping of their own
    kept = blocks[::2]
    del blocks
    before = resident()
    give_back()
    assert before - resident() > 30 * MIB
    assert all(len(each) == 64 * 1024 for each in kept)


def test_what_only_knows_itself_is_freed() -> None:
    class Part:
        other: "Part"

    one, other = Part(), Part()
    one.other, other.other = other, one
    gone = weakref.ref(one)
    gc.disable()
    try:
        del one, other
        assert gone() is not None
        give_back()
        assert gone() is None
    finally:
        gc.enable()


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("icebreaker.engine.allocator._trim", lambda: None)
    give_back()


def test_an_engine_that_always_has_something_to_do_gives_back_all_the_same(
    room: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = room.engine.loop
    given_back_at: list[float] = []
    begun, twice = room.now, threading.Event()

    def tick() -> bool:
        room.now += 1.0
        return True

    def give_back() -> None:
        given_back_at.append(room.now - begun)
        if len(given_back_at) == 2:
            twice.set()

    monkeypatch.setattr(loop, "tick", tick)
    monkeypatch.setattr("icebreaker.engine.loop.give_back", give_back)
    loop.start()
    try:
        assert twice.wait(20)
    finally:
        monkeypatch.undo()
        loop.stop()
    assert given_back_at[:2] == [GIVE_BACK_LATEST_S + 1, 2 * (GIVE_BACK_LATEST_S + 1)]

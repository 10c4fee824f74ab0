import numpy as np
import pytest

from icebreaker.server.webrtc_queue import FRAME_SAMPLES, TRACK_RATE, Heard, Marked, SpeechQueue


def drain(queue: SpeechQueue, frames: int) -> np.ndarray:
    return np.concatenate([queue.frame() for _ in range(frames)])


def tone(ms: int, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate * ms // 1000) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 24_000, 48_000])
def test_every_sample_is_sent_once_and_in_order(rate: int) -> None:
    queue = SpeechQueue(rate)
    for piece in np.array_split(tone(330, rate), 7):
        queue.push("r", "i", piece)
    queue.end("r")
    sound = drain(queue, 25) / 32768
    expected = tone(330, TRACK_RATE)
    assert np.abs(sound[100 : len(expected) - 100] - expected[100:-100]).max() < 0.01
    assert not sound[len(expected) + 1 :].any()


def test_what_was_sent_is_known_to_the_frame() -> None:
    queue = SpeechQueue(48_000)
    queue.push("r", "i", tone(500, 48_000))
    drain(queue, 7)
    assert queue.clear() == [Heard("r", "i", 140.0)]
    assert not drain(queue, 3).any()
    assert queue.clear() == []


def test_silence_while_a_reply_is_late_counts_for_nothing() -> None:
    queue = SpeechQueue(48_000)
    queue.push("r", "i", tone(40, 48_000))
    drain(queue, 10)
    queue.push("r", "i", tone(100, 48_000))
    drain(queue, 1)
    assert queue.clear() == [Heard("r", "i", 60.0)]


def test_replies_follow_each_other_and_tell_when_they_begin_and_end() -> None:
    queue = SpeechQueue(48_000)
    queue.push("first", "a", tone(30, 48_000))
    queue.end("first")
    queue.push("second", "b", tone(30, 48_000))
    assert queue.take_marks() == []
    sound = drain(queue, 2)
    assert np.array_equal(sound[:480], sound[1440:]), "no gap between them"
    assert queue.take_marks() == [Marked("started", "first"), Marked("stopped", "first"), Marked("started", "second")]
    drain(queue, 2)
    assert queue.take_marks() == [], "the second may go on"
    queue.end("second")
    drain(queue, 1)
    assert queue.take_marks() == [Marked("stopped", "second")]


def test_a_reply_without_sound_leaves_no_trace() -> None:
    queue = SpeechQueue(24_000)
    queue.push("r", "i", np.zeros(0, np.float32))
    queue.end("r")
    assert not drain(queue, 2).any()
    assert queue.take_marks() == []
    assert queue.frame().shape == (FRAME_SAMPLES,)


def test_held_it_sends_silence_and_then_the_very_next_sample() -> None:
    held, undisturbed = SpeechQueue(48_000), SpeechQueue(48_000)
    for queue in (held, undisturbed):
        queue.push("r", "i", tone(200, 48_000))
        queue.end("r")
    before = drain(held, 3)
    held.hold()
    assert not drain(held, 5).any()
    held.go_on()
    np.testing.assert_array_equal(np.concatenate([before, drain(held, 9)]), drain(undisturbed, 12))
    held.push("s", "j", tone(200, 48_000))
    drain(held, 2)
    held.hold()
    assert held.clear() == [Heard("s", "j", 40.0)]
    held.push("t", "k", tone(200, 48_000))
    assert drain(held, 2).any(), "what was cleared is held no longer"

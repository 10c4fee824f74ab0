"""Speech over the assistant's holds it at once; then it goes on where it stopped, or stops for good."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from conversing import CLIENT, only, sound, speak, written

from icebreaker.engine.messages import (
    Append,
    AudioDelta,
    Configure,
    PlaybackGoesOn,
    PlaybackHeld,
    ReplyDone,
    Respond,
    SessionConfig,
    SpeechIgnored,
    SpeechStarted,
)
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.scripted_answer import heard_letters

ANSWER = "alpha beta gamma delta epsilon zeta eta theta"
RATE = 24_000
COUGH = slice(10000, 13200)  # of the question: 200 ms of voice
SILENCE = np.zeros(16000, np.float32)


def loud(ms: int) -> Append:
    return Append(waveform=(0.3 * np.sin(np.arange(16 * ms) / 5)).astype(np.float32))


def silence(ms: int) -> Append:
    return Append(waveform=np.zeros(16 * ms, np.float32))


class Listener:
    """Keeps what a scripted session says; ``until`` waits for an event or so much sound."""

    def __init__(self, session: Any) -> None:
        self.session, self.events = session, []
        self.task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        async for event in self.session.events():
            self.events.append(event)

    @property
    def sound(self) -> np.ndarray:
        return sound(self.events)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)


def converse(work: Callable[[Any, Listener], Awaitable[None]], *, playback_hold: bool = False) -> None:
    async def run() -> None:
        engine = ScriptedEngine(lambda items, config: ANSWER, lead_s=0.2, confirm_ms=300)
        config = SessionConfig(turns="silence", silence_ms=300, playback_hold=playback_hold)
        async with engine.session(config) as session:
            session.push(Respond())
            listener = Listener(session)
            await listener.until(lambda: len(listener.sound) > 0.5 * RATE)
            await work(session, listener)
            listener.task.cancel()

    asyncio.run(run())


def test_a_scripted_answer_is_held_and_goes_on_at_the_next_sample() -> None:
    async def talk(session: Any, listener: Listener) -> None:
        session.push(loud(100))
        await asyncio.sleep(0)  # what had left before
        held = len(listener.sound)
        await asyncio.sleep(0.5)
        assert len(listener.sound) == held, "nothing is sent between onset and verdict"
        assert not only(listener.events, SpeechStarted)
        session.push(silence(400))
        await listener.until(lambda: only(listener.events, ReplyDone))
        (done,) = only(listener.events, ReplyDone)
        assert done.reply.status == "completed"
        assert not only(listener.events, SpeechStarted)
        starts = [round(event.start_ms * RATE / 1000) for event in only(listener.events, AudioDelta)]
        lengths = [len(event.waveform) for event in only(listener.events, AudioDelta)]
        assert starts == np.cumsum([0, *lengths[:-1]]).tolist(), "nothing lost, nothing twice"
        samples = len(ANSWER) * 60 * RATE // 1000
        np.testing.assert_allclose(listener.sound, 0.1 * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE), atol=1e-6)

    converse(talk)


def test_a_scripted_answer_that_was_held_is_cut_where_it_stopped() -> None:
    async def talk(session: Any, listener: Listener) -> None:
        session.push(loud(100))
        await asyncio.sleep(0)
        held = len(listener.sound)
        await asyncio.sleep(0.4)  # all that was sent is heard by then
        session.push(loud(300))
        await listener.until(lambda: only(listener.events, ReplyDone))
        assert len(listener.sound) == held
        (done,), (started,) = only(listener.events, ReplyDone), only(listener.events, SpeechStarted)
        assert listener.events.index(started) < listener.events.index(done)
        assert started.at_ms == 0, "where it began, not where it was believed"
        assert (done.reply.status, done.reply.reason) == ("cancelled", "turn_detected")
        (item,) = done.reply.items
        assert item.audio_ms == pytest.approx(1000 * held / RATE)
        assert item.text == ANSWER[: heard_letters(ANSWER, 1000 * held / RATE)] != ANSWER
        assert session.conversation.items[-1].text == item.text

    converse(talk)


def test_a_scripted_listener_who_asked_is_told_to_pause_and_to_go_on() -> None:
    async def talk(session: Any, listener: Listener) -> None:
        session.push(loud(100))
        await listener.until(lambda: only(listener.events, PlaybackHeld))
        at = len(listener.events)
        await asyncio.sleep(0.4)
        assert len(listener.events) == at
        session.push(silence(400))
        await listener.until(lambda: only(listener.events, ReplyDone))
        assert listener.events[at] == PlaybackGoesOn()
        assert [len(only(listener.events, kind)) for kind in (PlaybackHeld, PlaybackGoesOn, SpeechStarted)] == [1, 1, 0]
        assert len(listener.sound) == len(ANSWER) * 60 * RATE // 1000

    converse(talk, playback_hold=True)


def test_a_scripted_listener_who_paused_heard_no_more_than_that() -> None:
    async def talk(session: Any, listener: Listener) -> None:
        session.push(loud(100))
        await listener.until(lambda: only(listener.events, PlaybackHeld))
        sent_ms = 1000 * len(listener.sound) / RATE
        await asyncio.sleep(0.5)
        session.push(loud(300))
        await listener.until(lambda: only(listener.events, ReplyDone))
        kinds = [type(event) for event in listener.events]
        assert kinds.index(PlaybackHeld) < kinds.index(SpeechStarted) < kinds.index(ReplyDone)
        assert PlaybackGoesOn not in kinds
        (item,) = only(listener.events, ReplyDone)[0].reply.items
        played_ms = session._valve.playback(0.0).played_ms
        assert sent_ms - 210 <= played_ms < sent_ms, "what was on its way when it was held was not heard"
        assert item.text == ANSWER[: heard_letters(ANSWER, played_ms)]

    converse(talk, playback_hold=True)


def held_and_sent(room: Any, session: Any, waveform: np.ndarray, events: list[Any]) -> list[tuple[bool, int, float]]:
    """Speak, and after each 10 ms: whether the voice is held, samples that were sent, seconds until all is heard."""
    told = []
    for start in range(0, len(waveform), 160):
        session.push(Append(waveform=waveform[start : start + 160]))
        room.tick()
        events += session.outbox.take()
        told.append((session.live.valve.is_held, len(sound(events)), session.live.valve.dry_in(room.now)))
    return told


def replying(make_room: Callable[..., Any], turns: str, **config: Any) -> tuple[Any, Any, list[Any]]:
    """A room in which a long answer is being heard; its microphone was silent for long enough to rule out an echo."""
    room = make_room(max_text_tokens=160)
    session = room.enter(SessionConfig(turns=turns, **config))
    session.push(written("Tell a long story.", "u"))
    session.push(Respond())
    events = room.until(session, AudioDelta)
    speak(room, session, np.concatenate([SILENCE, SILENCE]), events)
    assert session.live.echo.certain
    return room, session, events


def test_a_cough_holds_the_voice_for_a_moment(make_room: Callable[..., Any], question: np.ndarray) -> None:
    room, session, events = replying(make_room, "model")
    told = held_and_sent(room, session, np.concatenate([question[COUGH], SILENCE]), events)
    held = [i for i, (is_held, _, _) in enumerate(told) if is_held]
    assert 5 <= held[0] <= 20, "within 200 ms of the first sound"
    assert held == list(range(held[0], held[-1] + 1)), "once"
    assert 30 <= len(held) <= 70, "until silence has refuted it"
    assert len({sent for i, (_, sent, _) in enumerate(told) if i in held}) == 1, "nothing is sent meanwhile"
    assert session.live.valve.sent_samples > told[held[-1]][1]
    events += room.until(session, ReplyDone)
    assert not only(events, SpeechStarted)
    assert not only(events, SpeechIgnored)
    quiet_room, quiet, undisturbed = replying(make_room, "model")
    undisturbed += quiet_room.until(quiet, ReplyDone)
    assert len(sound(events)) == len(sound(undisturbed))
    np.testing.assert_allclose(sound(events), sound(undisturbed), atol=1e-4)
    assert room.engine.stats().underruns == quiet_room.engine.stats().underruns == 0


def test_who_means_it_is_met_with_silence_before_it_is_known(
    make_room: Callable[..., Any], question: np.ndarray
) -> None:
    """The reply is taken back to the very sample that was sent last, for all of it was heard by then."""
    room, session, events = replying(make_room, "model")
    device = room.engine.device
    device.duplex = replace(device.duplex, ignore_threshold=1.0)  # its head was never trained
    onset = int(np.flatnonzero(np.abs(question) > 0.02)[0])
    told = held_and_sent(room, session, question[onset : onset + 20000], events)
    started = next(i for i, event in enumerate(events) if isinstance(event, SpeechStarted))
    first = next(i for i, (is_held, _, _) in enumerate(told) if is_held)
    stop_s = 0.01 * (first + 1) + told[first][2]
    assert stop_s < 0.36, "from the user's first sample to the last one heard, jitter buffer included"
    (done,) = only(events, ReplyDone)
    sent = told[first][1]
    assert len(sound(events)) == sent
    assert not only(events[started:], AudioDelta)
    assert done.reply.reason == "turn_detected"
    assert done.reply.audio_ms == pytest.approx(1000 * sent / room.engine.sample_rate)
    entry = session.live.memory.find(done.reply.items[0].id)
    assert entry.item.audio_ms == done.reply.audio_ms
    spoken = [span for span in entry.spans if span.stop_sample <= sent]
    assert entry.heard >= sum(len(span.segment.ends) for span in spoken) > 0
    assert entry.heard < len(entry.tokens)
    assert room.engine.stats().barge_ins == 1


def test_who_can_pause_is_silent_when_it_is_held_and_remembers_what_was_heard_until_then(
    make_room: Callable[..., Any], question: np.ndarray
) -> None:
    room, session, events = replying(make_room, "model", playback_hold=True)
    device = room.engine.device
    device.duplex = replace(device.duplex, ignore_threshold=1.0)  # its head was never trained
    onset = int(np.flatnonzero(np.abs(question) > 0.02)[0])
    told = held_and_sent(room, session, question[onset : onset + 20000], events)
    first = next(i for i, (is_held, _, _) in enumerate(told) if is_held)
    assert 0.01 * (first + 1) < 0.15, "from the user's first sample on"
    kinds = [type(event) for event in events]
    assert kinds.index(PlaybackHeld) < kinds.index(SpeechStarted) < kinds.index(ReplyDone)
    assert PlaybackGoesOn not in kinds
    _, sent, kept_s = told[first]
    assert kept_s > 0.1
    (done,) = only(events, ReplyDone)
    entry = session.live.memory.find(done.reply.items[0].id)
    heard = sent - kept_s * room.engine.sample_rate
    assert session.live.valve.played_samples(room.now) == pytest.approx(heard, abs=1)
    whole = [span for span in entry.spans if span.stop_sample <= heard]
    assert entry.heard >= sum(len(span.segment.ends) for span in whole)
    assert 0 < entry.heard < len(entry.tokens)
    assert room.engine.stats().underruns == 0


def test_a_cough_makes_who_can_pause_pause_for_a_moment(make_room: Callable[..., Any], question: np.ndarray) -> None:
    room, session, events = replying(make_room, "model", playback_hold=True)
    told = held_and_sent(room, session, np.concatenate([question[COUGH], SILENCE]), events)
    held = [i for i, (is_held, _, _) in enumerate(told) if is_held]
    assert len({round(dry_s, 6) for i, (_, _, dry_s) in enumerate(told) if i in held}) == 1, (
        "he plays nothing meanwhile"
    )
    assert told[held[0]][2] > 0.1
    events += room.until(session, ReplyDone)
    assert [type(e) for e in events if isinstance(e, PlaybackHeld | PlaybackGoesOn)] == [PlaybackHeld, PlaybackGoesOn]
    assert not only(events, SpeechStarted)
    quiet_room, quiet, undisturbed = replying(make_room, "model")
    undisturbed += quiet_room.until(quiet, ReplyDone)
    np.testing.assert_allclose(sound(events), sound(undisturbed), atol=1e-4)
    assert room.engine.stats().underruns == 0
    assert only(undisturbed, PlaybackHeld) == []


def test_where_nothing_interrupts_all_sound_is_sent_at_once(make_room: Callable[..., Any]) -> None:
    for config in (CLIENT, SessionConfig(interrupt_response=False)):
        room = make_room(max_text_tokens=60)
        session = room.enter(SessionConfig())
        for command in (Configure(config=config), written("Tell a story.", "u"), Respond()):
            session.push(command)
        room.dt = 0.001
        events = room.until(session, ReplyDone)
        assert len(sound(events)) / room.engine.sample_rate > 2 * (room.now - 100.0)


def test_what_is_sent_ahead_is_little(make_room: Callable[..., Any]) -> None:
    room = make_room(max_text_tokens=160)
    session = room.enter(SessionConfig())
    session.push(written("Tell a long story.", "u"))
    session.push(Respond())
    events = room.until(session, AudioDelta)
    for _ in range(150):
        room.tick()
        events += session.outbox.take()
        assert session.live.valve.playback(room.now).lead_ms <= 250 + 10 + 1e-6
    assert session.live.talking.speech.samples > session.live.valve.sent_samples + 24000, "made well ahead"
    assert room.engine.stats().underruns == 0

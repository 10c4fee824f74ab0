"""Who asks for it is told to pause while somebody may be interrupting; nobody else hears of it."""

import asyncio
import base64
import time
from collections.abc import Iterator

import numpy as np
import pytest
from served import RATE, Served, Talk, serving, silence, tone

from icebreaker.client.remote import RemoteEngine
from icebreaker.engine import messages as m
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.scripted_answer import heard_letters

ANSWER = " ".join("abcdefghijklmnopqrstuvwxyzabcdef")  # a word every 120 ms
ASKS = {"icebreaker": {"playback_hold": True}}
TURNS = {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}}}
HOLD, GO_ON = "icebreaker.playback.hold", "icebreaker.playback.go_on"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(lambda: ScriptedEngine(lambda items, config: ANSWER, lead_s=0.6, confirm_ms=300)) as served:
        yield served


def answering(talk: Talk, **session: object) -> None:
    """Lead the session so, and be sent a second of an answer."""
    talk.until("session.created")
    talk.say("session.update", session={**TURNS, **session})
    talk.until("session.updated")
    talk.say("response.create")
    stop = time.monotonic() + 10
    while sound_ms(talk) < 1000:
        talk.next()
        assert time.monotonic() < stop


def sound_ms(talk: Talk) -> float:
    deltas = [event["delta"] for event in talk.heard if event["type"] == "response.output_audio.delta"]
    return sum(len(base64.b64decode(delta)) for delta in deltas) / 2 / RATE * 1000


def ours(talk: Talk) -> list[str]:
    return [kind for kind in talk.kinds if kind.startswith("icebreaker.")]


def test_a_cough_pauses_who_asked_and_nothing_is_lost(server: Served) -> None:
    with server.talk() as talk:
        answering(talk, **ASKS)
        talk.speak(tone(100))
        talk.until(HOLD)
        at = sound_ms(talk)
        talk.speak(silence(400))
        talk.until(GO_ON)
        assert sound_ms(talk) == at, "nothing comes between"
        done = talk.until("response.done")
        assert done["response"]["status"] == "completed"
        assert ours(talk) == [HOLD, GO_ON]
        assert "input_audio_buffer.speech_started" not in talk.kinds
        assert sound_ms(talk) == pytest.approx(len(ANSWER) * 60, abs=1)
        held = next(event for event in talk.heard if event["type"] == HOLD)
        assert set(held) == {"type", "event_id"}


def test_an_interruption_ends_the_pause_by_itself(server: Served) -> None:
    with server.talk() as talk:
        answering(talk, **ASKS)
        talk.speak(tone(100))
        talk.until(HOLD)
        sent_ms = sound_ms(talk)
        time.sleep(0.4)
        talk.speak(tone(300))
        done = talk.until("response.done")
        assert ours(talk) == [HOLD]
        kinds = talk.kinds
        assert kinds.index(HOLD) < kinds.index("input_audio_buffer.speech_started") < kinds.index("response.done")
        assert done["response"]["status_details"]["reason"] == "turn_detected"
        (item,) = done["response"]["output"]
        kept = item["content"][0]["transcript"]
        assert len(kept) < heard_letters(ANSWER, sent_ms), "what the server sent is not what was heard"
        assert kept in (ANSWER[: heard_letters(ANSWER, ms)] for ms in np.arange(sent_ms - 650, sent_ms, 20))


@pytest.mark.parametrize("session", [{}, {"icebreaker": {"playback_hold": False}}, {"icebreaker": None}])
def test_who_did_not_ask_hears_nothing_of_it(server: Served, session: dict[str, object]) -> None:
    with server.talk() as talk:
        answering(talk, **session)
        talk.speak(tone(100))
        talk.speak(silence(400))
        talk.until("response.done")
        assert ours(talk) == []
        assert all("icebreaker" not in event["session"] for event in talk.heard if "session" in event)


def test_the_session_says_what_holds_until_another_client_comes(server: Served) -> None:
    with server.talk() as talk:
        session_id = talk.until("session.created")["session"]["id"]
        talk.say("session.update", session=ASKS)
        assert talk.until("session.updated")["session"]["icebreaker"] == {"playback_hold": True}
        talk.say("session.update", session={"instructions": "Be brief."})
        assert talk.until("session.updated")["session"]["icebreaker"] == {"playback_hold": True}
        talk.say("session.update", session={"icebreaker": {"playback_hold": "yes"}})
        error = talk.until("error")["error"]
        assert (error["code"], error["param"]) == ("invalid_type", "session.icebreaker.playback_hold")
    with server.talk(url=f"{server.url}&session_id={session_id}") as talk:
        created = talk.until("session.created")["session"]
        assert created["instructions"] == "Be brief."
        assert "icebreaker" not in created


def test_our_own_client_asks_where_the_server_says_that_it_may(server: Served) -> None:
    async def talk() -> list[m.SessionEvent]:
        events: list[m.SessionEvent] = []
        coughs = [m.Append(waveform=tone(100, 16_000))]
        config = m.SessionConfig(turns="silence", silence_ms=300, playback_hold=True)
        async with RemoteEngine(server.http).session(config) as session:
            session.push(m.Respond())
            async for event in session.events():
                events.append(event)
                if isinstance(event, m.AudioDelta) and event.start_ms > 400 and coughs:
                    session.push(coughs.pop())
                if isinstance(event, m.PlaybackHeld):
                    session.push(m.Append(waveform=silence(400, 16_000)))
                if isinstance(event, m.ReplyDone):
                    break
        return events

    events = asyncio.run(talk())
    ours = [event for event in events if isinstance(event, m.PlaybackHeld | m.PlaybackGoesOn | m.SpeechStarted)]
    assert ours == [m.PlaybackHeld(), m.PlaybackGoesOn()]

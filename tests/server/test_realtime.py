"""A conversation over a real socket with the scripted engine: the order of events, and all that they must carry."""

import base64
import itertools

import numpy as np
import pytest
from served import RATE, Served, Talk, serving, silence, tone, utterance

from icebreaker.audio.g711 import decode_g711, encode_g711
from icebreaker.engine.messages import Item
from icebreaker.engine.scripted import ScriptedEngine

ANSWER = "The capital of France is Paris, a city of two million."
FIELDS = {
    "input_audio_buffer.speech_started": {"audio_start_ms", "item_id"},
    "input_audio_buffer.speech_stopped": {"audio_end_ms", "item_id"},
    "input_audio_buffer.committed": {"item_id", "previous_item_id"},
    "conversation.item.added": {"item", "previous_item_id"},
    "conversation.item.done": {"item", "previous_item_id"},
    "conversation.item.input_audio_transcription.completed": {"item_id", "content_index", "transcript", "usage"},
    "response.output_item.added": {"response_id", "output_index", "item"},
    "response.output_item.done": {"response_id", "output_index", "item"},
    "response.content_part.added": {"response_id", "item_id", "output_index", "content_index", "part"},
    "response.content_part.done": {"response_id", "item_id", "output_index", "content_index", "part"},
    "response.output_audio.delta": {"response_id", "item_id", "output_index", "content_index", "delta"},
    "response.output_audio.done": {"response_id", "item_id", "output_index", "content_index"},
    "response.output_audio_transcript.delta": {"response_id", "item_id", "output_index", "content_index", "delta"},
    "response.output_audio_transcript.done": {"response_id", "item_id", "output_index", "content_index", "transcript"},
}


@pytest.fixture(scope="module")
def server():
    with serving(lambda: ScriptedEngine(lambda items, config: ANSWER)) as served:
        yield served


@pytest.fixture
def talk(server: Served):
    with server.talk() as talk:
        yield talk


def sound_of(talk: Talk) -> np.ndarray:
    deltas = [event["delta"] for event in talk.heard if event["type"] == "response.output_audio.delta"]
    return np.frombuffer(b"".join(map(base64.b64decode, deltas)), "<i2") / 32768


def without_repeats(kinds: list[str]) -> list[str]:
    return [kind for kind, _ in itertools.groupby(kinds)]


def test_a_spoken_turn_in_the_order_that_all_clients_take(talk: Talk) -> None:
    assert talk.next()["type"] == "session.created"
    talk.say("session.update", session={"type": "realtime"})
    talk.until("session.updated")
    talk.speak(utterance())
    done = talk.until("response.done")
    deltas = {"response.output_audio_transcript.delta", "response.output_audio.delta"}
    first = next(i for i, kind in enumerate(talk.kinds) if kind in deltas)
    last = max(i for i, kind in enumerate(talk.kinds) if kind in deltas)
    assert talk.kinds[:first] == [
        "session.created",
        "session.updated",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.completed",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
    ]
    assert set(talk.kinds[first : last + 1]) == deltas
    assert talk.kinds[last + 1 :] == [
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    assert done["response"]["status"] == "completed"
    assert done["response"]["output"][0]["content"] == [{"type": "output_audio", "transcript": ANSWER}]
    assert done["response"]["usage"]["total_tokens"] == done["response"]["usage"]["output_tokens"] == 11
    assert len(sound_of(talk)) / RATE == pytest.approx(len(ANSWER) * 0.06, abs=0.002)


def test_every_event_carries_what_it_must(talk: Talk) -> None:
    talk.speak(utterance())
    talk.until("response.done")
    ids = [event["event_id"] for event in talk.heard]
    assert len(set(ids)) == len(ids)
    for event in talk.heard:
        assert FIELDS.get(event["type"], set()) <= event.keys(), event["type"]
    assert FIELDS.keys() <= set(talk.kinds)


def test_previous_item_ids_make_a_chain(talk: Talk) -> None:
    for _ in range(2):
        talk.speak(utterance())
        talk.until("response.done")
    added = [event for event in talk.heard if event["type"] == "conversation.item.added"]
    assert [event["item"]["role"] for event in added] == ["user", "assistant", "user", "assistant"]
    assert [event["previous_item_id"] for event in added] == [None, *(event["item"]["id"] for event in added[:-1])]


def test_the_defaults_and_the_merging_of_partial_updates(talk: Talk) -> None:
    session = talk.next()["session"]
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is True
    talk.say("session.update", session={"instructions": "be brief", "audio": {"output": {"voice": "marin"}}})
    talk.until("session.updated")
    vad = {"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 200}
    talk.say("session.update", session={"audio": {"input": {"turn_detection": vad}}, "tracing": "auto"})
    talk.until("session.updated")
    talk.say("session.update", session={"audio": {"input": {"turn_detection": {"threshold": 0.6}}}, "tools": None})
    session = talk.until("session.updated")["session"]
    assert session["instructions"] == "be brief"
    assert session["audio"]["output"]["voice"] == "marin"
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad", "threshold": 0.6, "prefix_padding_ms": 300, "silence_duration_ms": 200,
        "idle_timeout_ms": None, "create_response": True, "interrupt_response": True,
    }  # fmt: skip
    assert session["tracing"] == "auto"
    talk.say("session.update", session={"audio": {"input": {"turn_detection": None, "transcription": None}}})
    session = talk.until("session.updated")["session"]
    assert session["audio"]["input"]["turn_detection"] is None
    assert session["audio"]["input"]["transcription"] is None


def test_a_turn_led_by_the_client(talk: Talk) -> None:
    talk.say("session.update", session={"audio": {"input": {"turn_detection": None}}})
    talk.speak(tone(500))
    talk.say("input_audio_buffer.commit")
    talk.until("conversation.item.input_audio_transcription.completed")
    assert "input_audio_buffer.speech_started" not in talk.kinds
    talk.say("response.create", response={"metadata": {"client_event_id": "mine"}})
    created = talk.until("response.created")
    assert created["response"]["metadata"] == {"client_event_id": "mine"}
    assert talk.until("response.done")["response"]["metadata"] == {"client_event_id": "mine"}
    seconds = next(event for event in talk.heard if "usage" in event)["usage"]
    assert seconds == {"type": "duration", "seconds": pytest.approx(0.5, abs=0.02)}


def test_a_conversation_in_writing(talk: Talk) -> None:
    talk.say("session.update", session={"output_modalities": ["text"]})
    item = {"id": "mine", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    talk.say("conversation.item.create", item=item)
    assert talk.until("conversation.item.added")["item"]["id"] == "mine"
    talk.say("response.create")
    done = talk.until("response.done")
    assert done["response"]["output"][0]["content"] == [{"type": "output_text", "text": ANSWER}]
    assert "".join(e["delta"] for e in talk.heard if e["type"] == "response.output_text.delta") == ANSWER
    assert next(e for e in talk.heard if e["type"] == "response.output_text.done")["text"] == ANSWER
    assert not any("audio" in kind for kind in talk.kinds)


def test_items_are_placed_retrieved_and_deleted(talk: Talk) -> None:
    for name, previous in (("b", None), ("c", "b"), ("a", "root")):
        item = {"id": name, "type": "message", "role": "user", "content": [{"type": "input_text", "text": name}]}
        talk.say("conversation.item.create", item=item, previous_item_id=previous)
    added = [talk.until("conversation.item.added") for _ in range(3)]
    assert [(event["item"]["id"], event["previous_item_id"]) for event in added] == [
        ("b", None),
        ("c", "b"),
        ("a", None),
    ]
    talk.say("conversation.item.retrieve", item_id="c")
    assert talk.until("conversation.item.retrieved")["item"]["content"] == [{"type": "input_text", "text": "c"}]
    talk.say("conversation.item.delete", item_id="c")
    assert talk.until("conversation.item.deleted")["item_id"] == "c"
    talk.say("conversation.item.retrieve", item_id="c", event_id="ask")
    error = talk.until("error")["error"]
    assert error["code"] == "item_retrieve_invalid_item_id"
    assert error["event_id"] == "ask"


def test_a_recorded_item_is_heard(talk: Talk) -> None:
    audio = base64.b64encode((tone(1000) * 32767).astype("<i2").tobytes()).decode()
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": audio}]}
    talk.say("conversation.item.create", item=item)
    added = talk.until("conversation.item.added")["item"]
    assert added["content"] == [{"type": "input_audio", "transcript": None}]


@pytest.mark.parametrize("kind", ["audio/pcmu", "audio/pcma"])
def test_telephone_sound_both_ways(talk: Talk, kind: str) -> None:
    format = {"format": {"type": kind}}
    talk.say("session.update", session={"audio": {"input": format, "output": format}})
    law = "mu" if kind == "audio/pcmu" else "a"
    speech = np.concatenate([silence(100, 8000), tone(400, 8000), silence(700, 8000)])
    talk.say("input_audio_buffer.append", audio=base64.b64encode(encode_g711(speech, law)).decode())
    talk.until("response.done")
    started = next(e for e in talk.heard if e["type"] == "input_audio_buffer.speech_started")
    assert started["audio_start_ms"] == pytest.approx(100, abs=20)
    deltas = [event["delta"] for event in talk.heard if event["type"] == "response.output_audio.delta"]
    sound = decode_g711(b"".join(map(base64.b64decode, deltas)), law)
    assert len(sound) / 8000 == pytest.approx(len(ANSWER) * 0.06, abs=0.002)
    spectrum = np.abs(np.fft.rfft(sound[:8000]))
    assert int(spectrum.argmax()) == pytest.approx(440, abs=2)


def test_the_answer_comes_at_24_khz_whatever_the_engine_makes() -> None:
    with (
        serving(lambda: ScriptedEngine(lambda items, config: ANSWER, sample_rate=16000)) as served,
        served.talk() as talk,
    ):
        talk.say("response.create")
        talk.until("response.done")
        sound = sound_of(talk)
        assert len(sound) / RATE == pytest.approx(len(ANSWER) * 0.06, abs=0.002)
        assert int(np.abs(np.fft.rfft(sound[:RATE])).argmax()) == pytest.approx(440, abs=2)


def test_a_reply_aside_leaves_no_trace(talk: Talk) -> None:
    talk.say(
        "response.create", response={"conversation": "none", "metadata": {"topic": "x"}, "output_modalities": ["text"]}
    )
    done = talk.until("response.done")["response"]
    assert done["conversation_id"] is None
    assert done["metadata"] == {"topic": "x"}
    assert "response.output_item.added" in talk.kinds
    assert "conversation.item.added" not in talk.kinds
    talk.say("conversation.item.retrieve", item_id=done["output"][0]["id"])
    assert talk.until("error")["error"]["code"] == "item_retrieve_invalid_item_id"


def call_then_tell(items, config):
    outputs = [item for item in items if item.kind == "function_call_output"]
    if outputs:
        return f"It is {outputs[-1].text}."
    return Item(id="call1", kind="function_call", name=config.tools[0].name, arguments='{"city": "Oslo"}', call_id="c1")


def test_a_function_is_called_and_its_output_used() -> None:
    tool = {"type": "function", "name": "weather", "description": "?", "parameters": {"type": "object"}}
    with serving(lambda: ScriptedEngine(call_then_tell)) as served, served.talk() as talk:
        talk.say("session.update", session={"tools": [tool], "tool_choice": "auto"})
        assert talk.until("session.updated")["session"]["tools"] == [tool]
        talk.speak(utterance())
        done = talk.until("response.done")["response"]
        assert done["output"] == [
            {"id": "call1", "object": "realtime.item", "type": "function_call", "status": "completed",
             "name": "weather", "call_id": "c1", "arguments": '{"city": "Oslo"}'}
        ]  # fmt: skip
        after = talk.kinds[talk.kinds.index("response.created") :]
        assert after == [
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        arguments = next(e for e in talk.heard if e["type"] == "response.function_call_arguments.done")
        assert (arguments["call_id"], arguments["arguments"]) == ("c1", '{"city": "Oslo"}')
        output = {"type": "function_call_output", "call_id": "c1", "output": "sunny"}
        talk.say("conversation.item.create", item=output)
        talk.say("response.create")
        done = talk.until("response.done")["response"]
        assert done["output"][0]["content"][0]["transcript"] == "It is sunny."


def test_barge_in_stops_the_reply_and_takes_back_what_was_not_heard() -> None:
    with (
        serving(lambda: ScriptedEngine(lambda items, config: ANSWER, delta_s=0.1)) as served,
        served.talk() as talk,
    ):
        talk.speak(utterance())
        item_id = talk.until("response.output_audio.delta")["item_id"]
        talk.until("response.output_audio.delta")
        talk.heard.clear()
        talk.speak(tone(300))
        done = talk.until("response.done")["response"]
        order = [kind for kind in talk.kinds if not kind.endswith(".delta")]
        assert order[:2] == ["input_audio_buffer.speech_started", "response.output_audio.done"]
        assert order[-1] == "response.done"
        assert done["status"] == "cancelled"
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert done["output"][0]["status"] == "incomplete"
        talk.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=800)
        truncated = talk.until("conversation.item.truncated")
        assert (truncated["item_id"], truncated["content_index"], truncated["audio_end_ms"]) == (item_id, 0, 800)
        talk.say("conversation.item.retrieve", item_id=item_id)
        kept = talk.until("conversation.item.retrieved")["item"]["content"][0]["transcript"]
        assert kept == "The capital"


def test_cancel_and_the_three_codes_that_clients_forgive() -> None:
    with (
        serving(lambda: ScriptedEngine(lambda items, config: ANSWER, delta_s=0.1)) as served,
        served.talk() as talk,
    ):
        talk.say("response.cancel", event_id="none yet")
        error = talk.until("error")["error"]
        assert error["code"] == "response_cancel_not_active"
        assert error["event_id"] == "none yet"
        assert error["message"].startswith("Cancellation failed")
        talk.say("response.create")
        response_id = talk.until("response.created")["response"]["id"]
        talk.say("response.create", event_id="second")
        error = talk.until("error")["error"]
        assert error["code"] == "conversation_already_has_active_response"
        assert error["event_id"] == "second"
        talk.say("response.cancel", response_id="another")
        assert talk.until("error")["error"]["code"] == "response_cancel_not_active"
        talk.say("response.cancel", response_id=response_id)
        done = talk.until("response.done")["response"]
        assert done["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        talk.say("conversation.item.retrieve", item_id="nobody")
        assert talk.until("error")["error"]["code"] == "item_retrieve_invalid_item_id"
        talk.say("session.update", session={"audio": {"input": {"turn_detection": None}}})
        talk.say("input_audio_buffer.commit")
        assert talk.until("error")["error"]["code"] == "input_audio_buffer_commit_empty"


def test_a_buffer_is_cleared(talk: Talk) -> None:
    talk.say("session.update", session={"audio": {"input": {"turn_detection": None}}})
    talk.speak(tone(300))
    talk.say("input_audio_buffer.clear")
    talk.until("input_audio_buffer.cleared")
    talk.say("input_audio_buffer.commit")
    assert talk.until("error")["error"]["code"] == "input_audio_buffer_commit_empty"

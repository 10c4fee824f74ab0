import base64

import numpy as np
import pytest

from icebreaker.client.wire import Wire, session_of
from icebreaker.engine import messages as m

IDS = {"response_id": "r", "item_id": "i", "output_index": 0, "content_index": 0}


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ("client", None),
        ("model", {"type": "semantic_vad", "eagerness": "high", "create_response": True, "interrupt_response": False}),
    ],
)
def test_session_says_who_takes_turns(turns: str, expected: object) -> None:
    config = m.SessionConfig(turns=turns, eagerness="high", interrupt_response=False, instructions="Be brief.")
    session = session_of(config)
    assert session["audio"]["input"]["turn_detection"] == expected
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    assert session["instructions"] == "Be brief."


def test_only_a_server_of_ours_is_asked_for_more() -> None:
    config = m.SessionConfig(playback_hold=True)
    assert "icebreaker" not in session_of(config)
    assert session_of(config, ours=True)["icebreaker"] == {"playback_hold": True}
    (update,) = Wire(ours=True).outgoing(m.Configure(config=m.SessionConfig()))
    assert update["session"]["icebreaker"] == {"playback_hold": False}


def test_a_hold_comes_in_and_what_is_unknown_means_nothing() -> None:
    told = ["icebreaker.playback.hold", "icebreaker.playback.go_on", "icebreaker.playback.else", "icebreaker.x"]
    events = [Wire().incoming({"type": kind})[0] for kind in told]
    assert events == [[m.PlaybackHeld()], [m.PlaybackGoesOn()], [], []]


def test_silence_has_its_settings() -> None:
    session = session_of(m.SessionConfig(turns="silence", silence_ms=321, transcribe=False))
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 321
    assert session["audio"]["input"]["transcription"] is None


def test_sound_goes_out_at_24_khz_and_whole() -> None:
    wire, second = Wire(), 0.5 * np.sin(np.arange(16_000) / 20).astype(np.float32)
    sent = [each for piece in np.split(second, 10) for each in wire.outgoing(m.Append(waveform=piece))]
    sent += wire.outgoing(m.Commit())
    assert sent[-1] == {"type": "input_audio_buffer.commit"}
    pcm = np.concatenate([np.frombuffer(base64.b64decode(each["audio"]), "<i2") for each in sent[:-1]])
    assert len(pcm) == 24_000
    expected = 0.5 * np.sin(np.arange(24_000) / 30) * 32767
    np.testing.assert_allclose(pcm[100:-100], expected[100:-100], atol=60)


def test_a_reply_comes_in_as_engine_events() -> None:
    wire = Wire()
    pcm = base64.b64encode(np.array([0, 16384] * 1200, "<i2").tobytes()).decode()
    told = [
        {"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
        {"type": "response.output_item.added", "response_id": "r", "item": {"id": "i", "type": "message"}},
        {"type": "response.output_audio_transcript.delta", "delta": "Hi", **IDS},
        {"type": "response.output_audio.delta", "delta": pcm, **IDS},
        {"type": "response.audio.delta", "delta": pcm, **IDS},  # the beta name
        {"type": "response.output_audio.done", **IDS},
        {"type": "response.output_audio_transcript.done", "transcript": "Hi", **IDS},
        {"type": "rate_limits.updated", "rate_limits": []},
        {"type": "response.done", "response": {
            "id": "r", "status": "cancelled", "status_details": {"type": "cancelled", "reason": "turn_detected"},
            "output": [{"id": "c", "type": "function_call", "name": "f", "arguments": "{}", "call_id": "7"}],
            "usage": {"input_tokens": 5, "output_tokens": None}}},
    ]  # fmt: skip
    events = [event for each in told for event in wire.incoming(each)[0]]
    started, text, first, second, sound_done, transcript, done = events
    assert started == m.ReplyStarted(response_id="r", item_id="i", previous_item_id=None, output="audio")
    assert (text.text, transcript.text, sound_done.item_id) == ("Hi", "Hi", "i")
    assert (first.start_ms, second.start_ms, first.waveform[1]) == (0.0, 100.0, 0.5)
    assert (done.reply.status, done.reply.reason, done.reply.audio_ms) == ("cancelled", "turn_detected", 200.0)
    assert done.reply.items == (m.Item(id="c", kind="function_call", name="f", arguments="{}", call_id="7"),)
    assert done.reply.usage == m.Usage(input_tokens=5, output_tokens=0)


def test_truncation_asks_what_was_kept() -> None:
    wire = Wire()
    (sent,) = wire.outgoing(m.Truncate(item_id="i", audio_end_ms=320.4))
    assert (sent["type"], sent["audio_end_ms"]) == ("conversation.item.truncate", 320)
    events, (asked,) = wire.incoming({"type": "conversation.item.truncated", "item_id": "i", "audio_end_ms": 320})
    assert events == []
    assert (asked["type"], asked["item_id"]) == ("conversation.item.retrieve", "i")
    item = {
        "id": "i",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_audio", "transcript": "The"}],
    }
    kept = m.ItemTruncated(item_id="i", audio_end_ms=320.0, text="The")
    assert wire.incoming({"type": "conversation.item.retrieved", "item": item}) == ([kept], [])
    assert wire.incoming({"type": "conversation.item.retrieved", "item": item}) == ([], [])  # asked by nobody


def test_a_server_that_does_not_tell_what_it_kept() -> None:
    wire = Wire()
    _, (asked,) = wire.incoming({"type": "conversation.item.truncated", "item_id": "i", "audio_end_ms": 320})
    refused = {"type": "error", "error": {"code": "item_retrieve_invalid_item_id", "event_id": asked["event_id"]}}
    (failed,) = wire.incoming(refused)[0]
    assert isinstance(failed, m.Failed)
    assert failed.code == "not_told"
    wire.incoming({"type": "conversation.item.truncated", "item_id": "j", "audio_end_ms": 320})
    silent = {
        "id": "j",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_audio", "transcript": None}],
    }
    (failed,) = wire.incoming({"type": "conversation.item.retrieved", "item": silent})[0]
    assert isinstance(failed, m.Failed)
    assert failed.code == "not_told"
    assert wire.incoming({"type": "error", "error": {"code": "x", "message": "y"}})[0] == [
        m.Failed(code="x", message="y")
    ]


def test_items_and_replies_are_asked_for() -> None:
    wire = Wire()
    (item,) = wire.outgoing(m.AddItem(item=m.Item(id="q", role="user", text="Hello")))
    assert item["item"]["content"] == [{"type": "input_text", "text": "Hello"}]
    (spoken,) = wire.outgoing(m.AddItem(item=m.Item(id="s", role="user"), waveform=np.zeros(160, np.float32)))
    assert len(base64.b64decode(spoken["item"]["content"][0]["audio"])) == 2 * 240
    (output,) = wire.outgoing(m.AddItem(item=m.Item(id="o", kind="function_call_output", call_id="7", text="42")))
    assert output["item"] == {"id": "o", "type": "function_call_output", "call_id": "7", "output": "42"}
    (reply,) = wire.outgoing(m.Respond(output="text", max_output_tokens=9, in_conversation=False))
    assert reply["response"] == {"output_modalities": ["text"], "max_output_tokens": 9, "conversation": "none"}

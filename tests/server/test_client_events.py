"""What clients send, and how precisely they are told what is wrong with it."""

import base64
import json

import pytest

from icebreaker.errors import ProtocolError
from icebreaker.server import client_events as c
from icebreaker.server.items import read_item
from icebreaker.server.settings import Settings


def event(**fields: object) -> str:
    return json.dumps(fields)


SILENCE = base64.b64encode(bytes(960)).decode()


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (event(type="input_audio_buffer.append", audio=SILENCE, event_id="e"), c.AppendAudio(bytes(960))),
        (event(type="input_audio_buffer.commit"), c.CommitBuffer()),
        (event(type="input_audio_buffer.clear"), c.ClearBuffer()),
        (event(type="conversation.item.retrieve", item_id="a"), c.RetrieveItem("a")),
        (event(type="conversation.item.delete", item_id="a"), c.DeleteItem("a")),
        (
            event(type="conversation.item.truncate", item_id="a", content_index=0, audio_end_ms=1500.0),
            c.TruncateItem("a", 0, 1500),
        ),
        (event(type="response.create"), c.CreateResponse()),
        (event(type="response.create", response=None), c.CreateResponse()),
        (
            event(
                type="response.create",
                response={"conversation": "none", "metadata": {"a": "b"}, "max_output_tokens": "inf", "tools": None},
            ),
            c.CreateResponse(in_conversation=False, metadata={"a": "b"}),
        ),
        (event(type="response.cancel", response_id=None), c.CancelResponse(None)),
        (event(type="output_audio_buffer.clear"), c.ClearOutput()),
    ],
)
def test_events_become_values(message: str, expected: c.ClientEvent) -> None:
    assert c.read(c.parse(message)) == expected


@pytest.mark.parametrize(
    ("message", "code", "param", "words"),
    [
        ("", "invalid_json", None, "expected a JSON object"),
        ("{", "invalid_json", None, "expected a JSON object"),
        ("[" * 100_000, "invalid_json", None, "nested too deeply"),
        ('{"type": NaN}', "invalid_json", None, "NaN is no JSON number"),
        (b"\x00\x01", "invalid_message", None, "got 2 bytes of binary"),
        ("[1]", "invalid_type", "the event", "expected an object, got an array of 1"),
        ("3", "invalid_type", "the event", "got the number 3"),
        ("{}", "missing_required_parameter", "type", "expected a string"),
        (event(type=7), "invalid_type", "type", "expected a string, got the number 7"),
        (event(type="fly"), "unknown_event_type", "type", 'got "fly"'),
        (event(type="response.cancel", event_id=3), "invalid_type", "event_id", "expected a string"),
        (event(type="input_audio_buffer.append"), "missing_required_parameter", "audio", "expected a string"),
        (event(type="input_audio_buffer.append", audio="%%"), "invalid_base64", "audio", "expected base64"),
        (event(type="input_audio_buffer.append", audio="Zm9"), "invalid_base64", "audio", "expected base64"),
        (event(type="session.update"), "missing_required_parameter", "session", "expected an object"),
        (event(type="session.update", session=[]), "invalid_type", "session", "got an array of 0"),
        (event(type="conversation.item.retrieve", item_id=""), "invalid_value", "item_id", "non-empty id"),
        (event(type="conversation.item.delete"), "missing_required_parameter", "item_id", "an id"),
        (event(type="conversation.item.truncate", item_id="a", content_index=0), "missing_required_parameter",
         "audio_end_ms", "milliseconds"),
        (event(type="conversation.item.truncate", item_id="a", content_index=0, audio_end_ms=-1), "invalid_value",
         "audio_end_ms", "from 0"),
        (event(type="conversation.item.truncate", item_id="a", content_index=1, audio_end_ms=1), "invalid_value",
         "content_index", "messages have one part"),
        (event(type="response.create", response={"output_modalities": ["smell"]}), "invalid_value",
         "response.output_modalities", '"smell"'),
        (event(type="response.create", response={"input": [{}]}), "unsupported_parameter", "response.input", "none"),
        (event(type="response.create", response={"metadata": {"a": 3}}), "invalid_type", "response.metadata.a",
         "expected a string"),
        (event(type="response.create", response={"max_output_tokens": 0}), "invalid_value",
         "response.max_output_tokens", "from 1 to 4096"),
        (event(type="response.create", response={"tools": [{"type": "mcp", "name": "x"}]}), "invalid_value",
         "response.tools[0].type", "one of function"),
    ],
)  # fmt: skip
def test_an_error_names_what_was_wrong(message: str | bytes, code: str, param: str | None, words: str) -> None:
    with pytest.raises(ProtocolError) as wrong:
        c.read(c.parse(message))
    assert (wrong.value.code, wrong.value.param) == (code, param)
    assert words in str(wrong.value)
    if param is not None:
        assert param in str(wrong.value)


def test_half_a_letter_is_mended() -> None:
    fields = c.parse('{"type": "conversation.item.retrieve", "item_id": "a\\ud800b"}')
    assert c.read(fields) == c.RetrieveItem("a\ufffdb")


@pytest.mark.parametrize(
    ("session", "param", "words"),
    [
        ({"type": "transcription"}, "session.type", "one of realtime"),
        ({"modalities": ["text"]}, "session.modalities", "use session.output_modalities"),
        ({"turn_detection": None}, "session.turn_detection", "use session.audio.input.turn_detection"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format.type", "audio/pcm"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 7}}}}, "session.audio.input.format.rate", "240"),
        ({"audio": {"input": {"turn_detection": {"type": "psychic"}}}}, "session.audio.input.turn_detection.type",
         "semantic_vad, server_vad"),
        ({"audio": {"input": {"turn_detection": {"threshold": 2}}}}, "session.audio.input.turn_detection.threshold",
         "from 0 to 1"),
        ({"tools": [{"type": "function"}]}, "session.tools[0].name", "a string"),
        ({"tools": "all"}, "session.tools", "an array"),
        ({"tool_choice": "perhaps"}, "session.tool_choice", "auto, none, required"),
        ({"max_output_tokens": "many"}, "session.max_output_tokens", '"inf"'),
        ({"instructions": 3}, "session.instructions", "a string"),
        ({"output_modalities": []}, "session.output_modalities", "nothing"),
        ({"tracing": 3}, "session.tracing", "an object"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named_and_nothing_holds(session: dict, param: str, words: str) -> None:
    fields = c.read(c.parse(event(type="session.update", session=session)))
    assert isinstance(fields, c.UpdateSession)
    with pytest.raises(ProtocolError) as wrong:
        Settings().updated(fields.session)
    assert wrong.value.param == param
    assert words in str(wrong.value)


def test_what_clients_send_unasked_is_taken() -> None:
    session = {
        "type": "realtime", "model": "gpt-realtime-2.1", "voice_hint": 1, "instructions": None, "tools": None,
        "tool_choice": None, "tracing": None, "truncation": "auto", "prompt": None, "include": None, "reasoning": None,
        "max_output_tokens": "inf", "output_modalities": ["audio"], "parallel_tool_calls": True,
        "audio": {
            "input": {"format": None, "noise_reduction": {"type": "near_field"}, "turn_detection": {
                "type": "semantic_vad", "eagerness": "medium", "create_response": None, "interrupt_response": None}},
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": {"id": "mine"}, "speed": 1.0},
        },
    }  # fmt: skip
    update = c.read(c.parse(event(type="session.update", session=session)))
    assert isinstance(update, c.UpdateSession)
    settings = Settings().updated(update.session)
    assert settings.voice == "mine"
    assert settings.config().eagerness == "medium"
    assert settings.config().max_output_tokens is None
    assert settings.config().interrupt_response


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({}, "item.type"),
        ({"type": "song"}, "item.type"),
        ({"type": "message", "content": []}, "item.role"),
        ({"type": "message", "role": "user"}, "item.content"),
        ({"type": "message", "role": "user", "content": ["hi"]}, "item.content[0]"),
        ({"type": "message", "role": "user", "content": [{"text": "hi"}]}, "item.content[0].type"),
        (
            {"type": "message", "role": "user", "content": [{"type": "output_text", "text": "x"}]},
            "item.content[0].type",
        ),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "item.content[0].text"),
        (
            {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": "?"}]},
            "item.content[0].audio",
        ),
        ({"type": "function_call_output", "output": "x"}, "item.call_id"),
        ({"type": "function_call_output", "call_id": "x"}, "item.output"),
        ({"type": "function_call", "call_id": "x", "name": "f"}, "item.arguments"),
        ({"type": "message", "id": "x" * 600, "role": "user", "content": []}, "item.id"),
    ],
)
def test_a_wrong_item_is_named(item: dict, param: str) -> None:
    create = c.read(c.parse(event(type="conversation.item.create", item=item)))
    assert isinstance(create, c.CreateItem)
    with pytest.raises(ProtocolError) as wrong:
        read_item(create.item, "new")
    assert wrong.value.param == param
    assert param in str(wrong.value)

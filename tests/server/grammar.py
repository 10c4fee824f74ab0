"""A grammar of the Realtime protocol that now and then breaks its own rules: what clients should and should not say."""

import base64
import json

from hypothesis import strategies as st

IDS = st.sampled_from(["a", "b", "c", "root", "resp_1", ""])
SOUNDS = [b"", b"\0", b"\0\0", b"\x10\x27" * 240, b"\x10\x27" * 2400]
AUDIO = (
    st.sampled_from([base64.b64encode(sound).decode() for sound in SOUNDS])
    | st.text(max_size=20)
    | st.just("A" * 400_000)
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(max_size=40) | st.just("hello") | st.just("\ud800")


def maybe(**fields: st.SearchStrategy) -> st.SearchStrategy:
    """An object of which any field may be missing, or of the wrong type."""
    return st.fixed_dictionaries({}, optional={name: usually(value) for name, value in fields.items()})


def usually(value: st.SearchStrategy) -> st.SearchStrategy:
    return st.integers(0, 7).flatmap(lambda dice: ANYTHING if dice == 0 else value)


FORMAT = maybe(type=st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma", "audio/ogg"]),
               rate=st.sampled_from([24000, 16000, 8000, 1]))  # fmt: skip
TURNS = st.none() | maybe(
    type=st.sampled_from(["server_vad", "semantic_vad", "none"]), threshold=st.floats(0, 1),
    create_response=st.booleans(),
    silence_duration_ms=st.integers(0, 500), prefix_padding_ms=st.integers(0, 500), interrupt_response=st.booleans(),
    eagerness=st.sampled_from(["low", "high", "auto"]), idle_timeout_ms=st.integers(5000, 30000),
)  # fmt: skip
TOOLS = st.lists(maybe(type=st.just("function"), name=TEXT, description=TEXT, parameters=maybe(type=TEXT)), max_size=3)
CHOICE = st.sampled_from(["auto", "none", "required"]) | maybe(type=st.just("function"), name=TEXT)
MODALITIES = st.lists(st.sampled_from(["audio", "text", "smell"]), max_size=2)
SESSION = maybe(
    type=st.just("realtime"), model=TEXT, instructions=TEXT, output_modalities=MODALITIES, tools=TOOLS,
    tool_choice=CHOICE, max_output_tokens=st.just("inf") | st.integers(0, 5000), modalities=MODALITIES,
    tracing=st.sampled_from(["auto", None]), temperature=st.floats(-1, 3),
    icebreaker=maybe(playback_hold=st.booleans()),
    audio=maybe(
        input=maybe(format=FORMAT, turn_detection=TURNS, transcription=st.none() | maybe(model=TEXT)),
        output=maybe(format=FORMAT, voice=TEXT, speed=st.floats(0, 2)),
    ),
)  # fmt: skip
PART = maybe(type=st.sampled_from(["input_text", "input_audio", "output_text", "output_audio"]), text=TEXT, audio=AUDIO,
             transcript=TEXT)  # fmt: skip
ITEM = maybe(
    id=IDS, type=st.sampled_from(["message", "function_call", "function_call_output"]), call_id=IDS, name=TEXT,
    role=st.sampled_from(["user", "assistant", "system"]), content=st.lists(PART, max_size=2), arguments=TEXT,
    output=TEXT,
)  # fmt: skip
RESPONSE = maybe(
    instructions=TEXT, output_modalities=MODALITIES, conversation=st.sampled_from(["auto", "none"]), tools=TOOLS,
    tool_choice=CHOICE, metadata=st.dictionaries(TEXT, TEXT, max_size=3), max_output_tokens=st.integers(0, 5000),
)  # fmt: skip
FIELDS = {
    "session.update": {"session": SESSION},
    "input_audio_buffer.append": {"audio": AUDIO},
    "input_audio_buffer.commit": {},
    "input_audio_buffer.clear": {},
    "conversation.item.create": {"item": ITEM, "previous_item_id": IDS},
    "conversation.item.retrieve": {"item_id": IDS},
    "conversation.item.delete": {"item_id": IDS},
    "conversation.item.truncate": {
        "item_id": IDS,
        "content_index": st.integers(0, 1),
        "audio_end_ms": st.integers(-1, 9999),
    },
    "response.create": {"response": RESPONSE},
    "response.cancel": {"response_id": IDS},
    "output_audio_buffer.clear": {},
    "no.such.event": {},
}


def event(kind: str) -> st.SearchStrategy:
    return maybe(**FIELDS[kind], event_id=IDS).map(lambda given: {"type": kind, **given})


EVENTS = st.sampled_from(sorted(FIELDS)).flatmap(event)
WRITTEN = EVENTS.map(json.dumps)
CUT = st.builds(lambda text, at: text[: at % (len(text) + 1)], WRITTEN, st.integers(0, 500))
NOISE = st.text(max_size=60) | ANYTHING.map(json.dumps) | st.integers(1, 3000).map(lambda depth: "[" * depth)
MESSAGES = st.integers(0, 9).flatmap(
    lambda dice: st.binary(max_size=60) if dice == 0 else NOISE if dice == 1 else CUT if dice == 2 else WRITTEN
)

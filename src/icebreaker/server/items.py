"""Conversation items, from the client's JSON to the engine's words and back. Knows nothing of the conversation."""

from dataclasses import dataclass
from typing import Any, Literal

from icebreaker.engine.messages import Item
from icebreaker.errors import ProtocolError
from icebreaker.server.fields import JSON, Fields, shown
from icebreaker.server.sound import decode_base64

__all__ = ["NewItem", "read_item", "render_item"]

KINDS = ("message", "function_call", "function_call_output")
PARTS = {
    "user": ("input_text", "input_audio"),
    "system": ("input_text",),
    "assistant": ("output_text", "output_audio"),
}
LONGEST_TEXT = 200_000  # characters of one item


@dataclass(frozen=True)
class NewItem:
    """An item to be created, and its sound as the client wrote it (user messages only)."""

    item: Item
    sound: bytes | None = None


def read_item(fields: Fields, new_id: str) -> NewItem:
    """The ``item`` of ``conversation.item.create``; it is called ``new_id`` if the client gave no id.

    Raises:
        ProtocolError: a field is missing or wrong.
    """
    kind = fields.choice("type", KINDS)
    if kind is None:
        raise fields.missing("type", "one of " + ", ".join(KINDS))
    item_id = fields.id("id") or new_id
    if kind == "message":
        return _message(fields, item_id)
    call_id = fields.id("call_id")
    if kind == "function_call_output":
        if call_id is None:
            raise fields.missing("call_id", "the call_id of the function call")
        text = fields.required_text("output", longest=LONGEST_TEXT)
        return NewItem(Item(id=item_id, kind="function_call_output", text=text, call_id=call_id))
    name = fields.required_text("name", longest=64)
    arguments = fields.required_text("arguments", longest=LONGEST_TEXT)
    return NewItem(
        Item(id=item_id, kind="function_call", name=name, arguments=arguments, call_id=call_id or f"call_{item_id}")
    )


def _message(fields: Fields, item_id: str) -> NewItem:
    role: Any = fields.choice("role", tuple(PARTS))
    if role is None:
        raise fields.missing("role", "one of " + ", ".join(PARTS))
    parts = fields.objects("content")
    if parts is None:
        raise fields.missing("content", "an array of parts")
    texts, sounds = [], []
    for part in parts:
        kind = part.choice("type", PARTS[role]) or _missing_part(part, role)
        if kind == "input_audio":
            audio = part.required_text("audio")
            sounds.append(decode_base64(audio, part.at("audio")))
            texts.append(part.text("transcript", longest=LONGEST_TEXT))
        elif kind == "output_audio":
            texts.append(part.text("transcript", longest=LONGEST_TEXT))
        else:
            texts.append(part.required_text("text", longest=LONGEST_TEXT))
    text = "\n".join(text for text in texts if text)
    return NewItem(Item(id=item_id, role=role, text=text), b"".join(sounds) if sounds else None)


def _missing_part(part: Fields, role: str) -> str:
    raise ProtocolError(
        f"missing {part.at('type')}: expected one of {', '.join(PARTS[role])} in a message of role {shown(role)}",
        "missing_required_parameter", part.at("type"),
    )  # fmt: skip


def render_item(item: Item, *, output: Literal["audio", "text"] | None = None, spoken: bool | None = None) -> JSON:
    """An item as the protocol has it.

    Args:
        item: what it is; sound is not repeated, only its transcript.
        output: how an assistant's message was put out; None goes by whether it has sound.
        spoken: whether a user's message was spoken; None goes by whether it has sound.
    """
    rendered: JSON = {"id": item.id, "object": "realtime.item", "type": item.kind, "status": item.status}
    if item.kind == "function_call":
        return rendered | {"name": item.name, "call_id": item.call_id, "arguments": item.arguments}
    if item.kind == "function_call_output":
        return rendered | {"call_id": item.call_id, "output": item.text}
    return rendered | {"role": item.role, "content": _content(item, output, spoken)}


def _content(item: Item, output: str | None, spoken: bool | None) -> list[JSON]:
    if item.role == "assistant":
        if item.status == "in_progress" and not item.text:
            return []
        audible = item.audio_ms > 0 if output is None else output == "audio"
        if audible:
            return [{"type": "output_audio", "transcript": item.text}]
        return [{"type": "output_text", "text": item.text}]
    if item.role == "user" and (item.audio_ms > 0 if spoken is None else spoken):
        return [{"type": "input_audio", "transcript": item.text or None}]
    return [{"type": "input_text", "text": item.text}]

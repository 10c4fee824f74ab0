"""What clients say, from JSON to plain values, or one precise error. Knows nothing of sockets or sessions."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from icebreaker.engine.messages import Tool
from icebreaker.errors import ProtocolError
from icebreaker.server.fields import JSON, LONGEST_ID, Fields, shown
from icebreaker.server.settings import max_tokens_of, output_of, tool_choice_of, tools_of
from icebreaker.server.sound import decode_base64

__all__ = [
    "AppendAudio", "CancelResponse", "ClearBuffer", "ClearOutput", "ClientEvent", "CommitBuffer", "CreateItem",
    "CreateResponse", "DeleteItem", "RetrieveItem", "TruncateItem", "UpdateSession", "event_id_of", "parse", "read",
]  # fmt: skip

METADATA_PAIRS, METADATA_KEY, METADATA_VALUE = 16, 64, 512  # the protocol's own limits
NO_CONTENT = 0  # the only content_index there is: our messages have one part


@dataclass(frozen=True)
class UpdateSession:
    """``session.update``; the session itself knows how to merge it."""

    session: Fields


@dataclass(frozen=True)
class AppendAudio:
    """``input_audio_buffer.append``: bytes in the session's input format."""

    sound: bytes


@dataclass(frozen=True)
class CommitBuffer:
    """``input_audio_buffer.commit``."""


@dataclass(frozen=True)
class ClearBuffer:
    """``input_audio_buffer.clear``."""


@dataclass(frozen=True)
class CreateItem:
    """``conversation.item.create``; see ``server.items``."""

    item: Fields
    previous_item_id: str | None


@dataclass(frozen=True)
class RetrieveItem:
    """``conversation.item.retrieve``."""

    item_id: str


@dataclass(frozen=True)
class DeleteItem:
    """``conversation.item.delete``."""

    item_id: str


@dataclass(frozen=True)
class TruncateItem:
    """``conversation.item.truncate``: only ``audio_end_ms`` were heard."""

    item_id: str
    content_index: int
    audio_end_ms: int


@dataclass(frozen=True, kw_only=True)
class CreateResponse:
    """``response.create``; None keeps what the session says."""

    instructions: str | None = None
    output: Literal["audio", "text"] | None = None
    max_output_tokens: int | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: str | None = None
    in_conversation: bool = True
    metadata: JSON | None = field(default=None)


@dataclass(frozen=True)
class CancelResponse:
    """``response.cancel``; None is whichever is under way."""

    response_id: str | None


@dataclass(frozen=True)
class ClearOutput:
    """``output_audio_buffer.clear``, where the server plays the sound itself (WebRTC)."""


ClientEvent = (
    UpdateSession | AppendAudio | CommitBuffer | ClearBuffer | CreateItem | RetrieveItem | DeleteItem | TruncateItem
    | CreateResponse | CancelResponse | ClearOutput
)  # fmt: skip


def parse(message: str | bytes) -> Fields:
    """One message as an object, not yet understood.

    Raises:
        ProtocolError: it is binary, no JSON, or no object.
    """
    if isinstance(message, bytes):
        raise ProtocolError(
            f"expected a text message with a JSON object, got {len(message)} bytes of binary", "invalid_message"
        )
    try:
        value = json.loads(message, parse_constant=_no_number)
    except RecursionError as error:
        raise ProtocolError("expected JSON, got brackets nested too deeply", "invalid_json") from error
    except ValueError as error:
        raise ProtocolError(
            f"expected a JSON object, got {shown(message[:40])} ({str(error)[:120]})", "invalid_json"
        ) from error
    return Fields(_mended(value) if "\\u" in message else value)


def event_id_of(event: Fields) -> str | None:
    """The client's own id of an event, to be named in an error; None where there is none, or no usable one."""
    event_id = event.raw("event_id")
    return event_id if isinstance(event_id, str) and 0 < len(event_id) <= LONGEST_ID else None


def read(event: Fields) -> ClientEvent:
    """The event as a plain value.

    Raises:
        ProtocolError: the type is unknown, or a field is missing or wrong.
    """
    event.id("event_id")
    kind = event.required_text("type")
    if kind not in READERS:
        raise ProtocolError(
            f"type: expected one of {', '.join(READERS)}, got {shown(kind)}", "unknown_event_type", "type"
        )
    return READERS[kind](event)


def _append(event: Fields) -> AppendAudio:
    return AppendAudio(decode_base64(event.required_text("audio"), "audio"))


def _create_item(event: Fields) -> CreateItem:
    return CreateItem(event.required_object("item"), event.id("previous_item_id"))


def _truncate(event: Fields) -> TruncateItem:
    end = event.integer("audio_end_ms", 0, 24 * 3600 * 1000)
    if end is None:
        raise event.missing("audio_end_ms", "the milliseconds that were heard")
    index = event.integer("content_index", 0, 1000)
    if index is None:
        raise event.missing("content_index", str(NO_CONTENT))
    if index != NO_CONTENT:
        raise event.wrong("content_index", f"{NO_CONTENT} (messages have one part)", str(index))
    return TruncateItem(event.required_id("item_id"), index, end)


def _create_response(event: Fields) -> CreateResponse:
    fields = event.object("response")
    if fields is None:
        return CreateResponse()
    if fields.raw("input"):
        raise ProtocolError(
            f"{fields.at('input')}: expected none, since a reply here is always to the conversation; "
            "create items first, or give instructions",
            "unsupported_parameter", fields.at("input"),
        )  # fmt: skip
    where = fields.choice("conversation", ("auto", "none"))
    return CreateResponse(
        instructions=fields.text("instructions"),
        output=output_of(fields),
        max_output_tokens=max_tokens_of(fields),
        tools=tools_of(fields),
        tool_choice=tool_choice_of(fields),
        in_conversation=where != "none",
        metadata=_metadata(fields),
    )


def _metadata(fields: Fields) -> JSON | None:
    metadata = fields.object("metadata")
    if metadata is None:
        return None
    if len(metadata.value) > METADATA_PAIRS:
        raise fields.wrong("metadata", f"at most {METADATA_PAIRS} pairs", str(len(metadata.value)))
    for key in metadata.value:
        if len(key) > METADATA_KEY:
            raise fields.wrong("metadata", f"keys of at most {METADATA_KEY} characters", shown(key))
        metadata.required_text(key, longest=METADATA_VALUE)
    return metadata.value


READERS: dict[str, Callable[[Fields], ClientEvent]] = {
    "session.update": lambda event: UpdateSession(event.required_object("session")),
    "input_audio_buffer.append": _append,
    "input_audio_buffer.commit": lambda event: CommitBuffer(),
    "input_audio_buffer.clear": lambda event: ClearBuffer(),
    "conversation.item.create": _create_item,
    "conversation.item.retrieve": lambda event: RetrieveItem(event.required_id("item_id")),
    "conversation.item.delete": lambda event: DeleteItem(event.required_id("item_id")),
    "conversation.item.truncate": _truncate,
    "response.create": _create_response,
    "response.cancel": lambda event: CancelResponse(event.id("response_id")),
    "output_audio_buffer.clear": lambda event: ClearOutput(),
}


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _mended(value: Any) -> Any:
    """Without lone surrogates, which JSON can write and no text encoding or tokenizer takes."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_mended(each) for each in value]
        case dict():
            return {_mended(key): _mended(each) for key, each in value.items()}
        case _:
            return value

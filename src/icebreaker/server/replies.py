"""One reply on the wire: the order of its events, whatever the order of the engine's. Knows nothing of sessions.

``response.created`` comes at once. The message is announced with its first word or sound, since a reply may turn out to
be a function call instead. At the end come the closing events that are still owed, then ``response.done``.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from icebreaker.engine import messages as m
from icebreaker.server.events import Stamp, usage_of
from icebreaker.server.fields import JSON
from icebreaker.server.items import render_item
from icebreaker.server.sound import Format, Mouth

__all__ = ["WireReply"]

REASONS = {"cancelled": "client_cancelled", "incomplete": "max_output_tokens"}  # where the engine gives none


class WireReply:
    """From ``ReplyStarted`` to ``ReplyDone``.

    Args:
        stamp: makes events.
        started: how the reply begins.
        sample_rate: of the engine's sound, in Hz.
        format: of the client's sound.
        metadata: what ``response.create`` carried.
        in_conversation: whether its items join the conversation.
        settings: further fields of every ``response`` object.
    """

    def __init__(
        self, stamp: Stamp, started: m.ReplyStarted, sample_rate: int, format: Format, *, metadata: JSON | None = None,
        in_conversation: bool = True, settings: JSON | None = None,
    ) -> None:  # fmt: skip
        self.started, self.output = started, started.output
        self.in_conversation = in_conversation
        self._stamp, self._metadata, self._settings = stamp, metadata, settings or {}
        self._mouth = Mouth(sample_rate, format)
        self._text = ""
        self._announced = self._sound_ended = self._text_ended = False

    def begin(self) -> JSON:
        """``response.created``."""
        return self._stamp("response.created", response=self._response("in_progress", None, [], None))

    def say(self, event: m.TextDelta | m.AudioDelta | m.TranscriptDone | m.AudioDone) -> Iterator[JSON]:
        """The events of a piece of the reply."""
        if isinstance(event, m.TextDelta | m.AudioDelta) and not self._announced:
            yield from self._announce()
        match event:
            case m.TextDelta(text=text):
                self._text += text
                yield self._part(f"response.{self._words}.delta", delta=text)
            case m.AudioDelta(waveform=waveform) if not self._sound_ended:
                if sound := self._mouth.say(waveform):
                    yield self._part("response.output_audio.delta", delta=sound)
            case m.TranscriptDone(text=text):
                self._text = text
                if self.output == "text" or self._sound_ended:
                    yield from self._end_text()
            case m.AudioDone():
                yield from self._end_sound()

    def finish(self, reply: m.Reply) -> Iterator[JSON]:
        """Everything still owed, function calls, and ``response.done``."""
        items, previous = [], self.started.previous_item_id
        message = next((item for item in reply.items if item.id == self.started.item_id), None)
        if self._announced:
            item = self._closing(message, reply.status)
            yield from self._close(item)
            items.append(render_item(item, output=self.output))
            previous = item.id
        for call in reply.items:
            if call.kind == "function_call":
                yield from self._call(call, len(items), previous)
                items.append(render_item(call))
                previous = call.id
        response = self._response(reply.status, _details(reply), items, usage_of(reply.usage, self.output))
        response["icebreaker"] = {"latency_ms": reply.latency_ms, "audio_ms": round(reply.audio_ms)}
        yield self._stamp("response.done", response=response)

    @property
    def _words(self) -> str:
        return "output_audio_transcript" if self.output == "audio" else "output_text"

    def _part(self, kind: str, **fields: object) -> JSON:
        ids = {"response_id": self.started.response_id, "item_id": self.started.item_id}
        return self._stamp(kind, **ids, output_index=0, content_index=0, **fields)

    def _announce(self) -> Iterator[JSON]:
        self._announced = True
        message = m.Item(id=self.started.item_id, role="assistant", status="in_progress")
        yield from self._added(message, 0, self.started.previous_item_id)
        yield self._part("response.content_part.added", part=self._content(""))

    def _added(self, item: m.Item, index: int, previous: str | None) -> Iterator[JSON]:
        rendered = render_item(item, output=self.output)
        response_id = self.started.response_id
        yield self._stamp("response.output_item.added", response_id=response_id, output_index=index, item=rendered)
        if self.in_conversation:
            yield self._stamp("conversation.item.added", previous_item_id=previous, item=rendered)

    def _content(self, text: str) -> JSON:
        if self.output == "audio":
            return {"type": "audio", "transcript": text}
        return {"type": "text", "text": text}

    def _end_sound(self) -> Iterator[JSON]:
        if self._sound_ended or not self._announced or self.output != "audio":
            return
        self._sound_ended = True
        if rest := self._mouth.say(np.zeros(0, np.float32), last=True):
            yield self._part("response.output_audio.delta", delta=rest)
        yield self._part("response.output_audio.done")

    def _end_text(self) -> Iterator[JSON]:
        if self._text_ended or not self._announced:
            return
        self._text_ended = True
        name = "transcript" if self.output == "audio" else "text"
        yield self._part(f"response.{self._words}.done", **{name: self._text})

    def _closing(self, message: m.Item | None, status: str) -> m.Item:
        if message is not None:
            return message
        done = "completed" if status == "completed" else "incomplete"
        item = m.Item(id=self.started.item_id, role="assistant", text=self._text)
        return replace(item, status=done)  # type: ignore[arg-type]

    def _close(self, item: m.Item) -> Iterator[JSON]:
        yield from self._end_sound()
        yield from self._end_text()
        yield self._part("response.content_part.done", part=self._content(item.text))
        yield from self._item_done(item, 0, self.started.previous_item_id)

    def _item_done(self, item: m.Item, index: int, previous: str | None) -> Iterator[JSON]:
        rendered = render_item(item, output=self.output)
        if self.in_conversation:
            yield self._stamp("conversation.item.done", previous_item_id=previous, item=rendered)
        response_id = self.started.response_id
        yield self._stamp("response.output_item.done", response_id=response_id, output_index=index, item=rendered)

    def _call(self, call: m.Item, index: int, previous: str | None) -> Iterator[JSON]:
        ids = {"response_id": self.started.response_id, "item_id": call.id, "output_index": index}
        yield from self._added(replace(call, status="in_progress", arguments=""), index, previous)
        about = {**ids, "call_id": call.call_id}
        yield self._stamp("response.function_call_arguments.delta", **about, delta=call.arguments)
        named = {**about, "name": call.name, "arguments": call.arguments}
        yield self._stamp("response.function_call_arguments.done", **named)
        yield from self._item_done(call, index, previous)

    def _response(self, status: str, details: JSON | None, output: list[JSON], usage: JSON | None) -> JSON:
        return {
            "id": self.started.response_id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": output,
            "output_modalities": [self.output],
            "metadata": self._metadata,
            "usage": usage,
            **self._settings,
        }


def _details(reply: m.Reply) -> JSON | None:
    """``status_details``: how it ended, and why."""
    if reply.status == "completed":
        return {"type": "completed"}
    if reply.status == "failed":
        error = {"type": "server_error", "code": "reply_failed", "message": reply.reason or "the reply failed"}
        return {"type": "failed", "error": error}
    return {"type": reply.status, "reason": reply.reason or REASONS[reply.status]}

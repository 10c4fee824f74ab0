"""What an engine's session says, in the words of the Realtime protocol. Knows no sockets and obeys nobody."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from icebreaker.engine import messages as m
from icebreaker.server import client_events as c
from icebreaker.server.events import Stamp
from icebreaker.server.fields import JSON
from icebreaker.server.items import render_item
from icebreaker.server.replies import WireReply
from icebreaker.server.settings import Settings

__all__ = ["Known", "Teller"]

MAX_ITEMS = 4096  # that can be retrieved; the engine forgets old ones sooner


@dataclass(frozen=True)
class Known:
    """An item that the client has been told of; ``output`` is how an assistant's message was put out."""

    item: m.Item
    output: Literal["audio", "text"] | None = None
    spoken: bool | None = None

    def rendered(self) -> JSON:
        """As the protocol has it."""
        return render_item(self.item, output=self.output, spoken=self.spoken)


class Teller:
    """Tells a client, and remembers what it was told of.

    Args:
        stamp: makes events.
        say: takes every event for the client, in order.
        sample_rate: of the engine's sound, in Hz.
        settings: that hold now.

    Attributes:
        known: items by id, oldest first.
        reply: that is under way.
        asked: what the client wanted of a reply, by response id, until the reply starts.
        created: items that the client asked for and the engine has not yet.
    """

    def __init__(
        self, stamp: Stamp, say: Callable[[JSON], None], sample_rate: int, settings: Callable[[], Settings]
    ) -> None:
        self.stamp, self.say = stamp, say
        self.known: OrderedDict[str, Known] = OrderedDict()
        self.reply: WireReply | None = None
        self.asked: dict[str, c.CreateResponse] = {}
        self.created: set[str] = set()
        self._id = f"conv_{secrets.token_hex(10)}"
        self._sample_rate, self._settings = sample_rate, settings

    def is_under_way(self, response_id: str) -> bool:
        """Whether a reply by that name was asked for, or is being given."""
        now = self.reply.started.response_id if self.reply else None
        return response_id == now or response_id in self.asked

    def tell(self, event: m.SessionEvent) -> None:
        """An event of the engine's session; a ``Failed`` is told by whoever knows what was asked."""
        match event:
            case m.SpeechStarted(item_id=item_id, at_ms=at):
                self.say(self.stamp("input_audio_buffer.speech_started", audio_start_ms=round(at), item_id=item_id))
            case m.SpeechStopped(item_id=item_id, at_ms=at) | m.SpeechIgnored(item_id=item_id, at_ms=at):
                self.say(self.stamp("input_audio_buffer.speech_stopped", audio_end_ms=round(at), item_id=item_id))
            case m.Committed(item_id=item_id, previous_item_id=previous):
                self.say(self.stamp("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous))
            case m.ItemAdded(item=item, previous_item_id=previous):
                self._item_added(item, previous)
            case m.Transcribed():
                self._transcribed(event)
            case m.ItemDeleted(item_id=item_id):
                self.known.pop(item_id, None)
                self.say(self.stamp("conversation.item.deleted", item_id=item_id))
            case m.ItemTruncated(item_id=item_id, audio_end_ms=end, text=text):
                self._change(item_id, text=text)
                about = {"item_id": item_id, "content_index": 0, "audio_end_ms": round(end)}
                self.say(self.stamp("conversation.item.truncated", **about))
            case m.PlaybackHeld():
                self.say(self.stamp("icebreaker.playback.hold"))
            case m.PlaybackGoesOn():
                self.say(self.stamp("icebreaker.playback.go_on"))
            case m.Failed():
                return
            case _:
                self._reply_event(event)

    def _reply_event(
        self, event: m.ReplyStarted | m.TextDelta | m.AudioDelta | m.TranscriptDone | m.AudioDone | m.ReplyDone
    ) -> None:
        if isinstance(event, m.ReplyStarted):
            self._started(event)
        elif self.reply is None or self.reply.started.response_id != event.response_id:
            return  # of a reply that a connection before this one began
        elif isinstance(event, m.ReplyDone):
            reply, self.reply = self.reply, None
            for item in event.reply.items:
                if reply.in_conversation:
                    self._remember(Known(item, reply.output))
            for told in reply.finish(event.reply):
                self.say(told)
        else:
            for told in self.reply.say(event):
                self.say(told)

    def _started(self, started: m.ReplyStarted) -> None:
        asked = self.asked.pop(started.response_id, None) or c.CreateResponse()
        settings = self._settings()
        most = asked.max_output_tokens or settings.max_output_tokens
        voice = {"output": {"format": settings.output_format.rendered(), "voice": settings.voice}}
        self.reply = WireReply(
            self.stamp, started, self._sample_rate, settings.output_format, metadata=asked.metadata,
            in_conversation=asked.in_conversation,
            settings={"conversation_id": self._id if asked.in_conversation else None,
                      "max_output_tokens": "inf" if most is None else most, "audio": voice},
        )  # fmt: skip
        self.say(self.reply.begin())

    def _item_added(self, item: m.Item, previous: str | None) -> None:
        asked, reply = item.id in self.created, self.reply
        self.created.discard(item.id)
        known = Known(item, None if reply is None or asked else reply.output)
        self._remember(known)
        if reply is not None and not asked and (item.role == "assistant" or item.kind == "function_call"):
            return  # the reply itself tells of it
        for kind in ("added", "done"):
            self.say(self.stamp(f"conversation.item.{kind}", previous_item_id=previous, item=known.rendered()))

    def _transcribed(self, event: m.Transcribed) -> None:
        self._change(event.item_id, text=event.text)
        usage = {"type": "duration", "seconds": round(event.seconds, 3)}
        about = {"item_id": event.item_id, "content_index": 0, "transcript": event.text, "usage": usage}
        self.say(self.stamp("conversation.item.input_audio_transcription.completed", **about))

    def _remember(self, known: Known) -> None:
        self.known[known.item.id] = known
        while len(self.known) > MAX_ITEMS:
            self.known.popitem(last=False)

    def _change(self, item_id: str, *, text: str) -> None:
        known = self.known.get(item_id)
        if known is not None:
            self.known[item_id] = replace(known, item=replace(known.item, text=text))

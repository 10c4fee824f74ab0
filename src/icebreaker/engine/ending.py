"""How a reply ends: what the device made of it, what is remembered, what is told. Decides nothing about when."""

from collections.abc import Sequence
from dataclasses import replace

from icebreaker.engine.conversation import Conversation
from icebreaker.engine.functions import Called, parse
from icebreaker.engine.memory import Remembered
from icebreaker.engine.messages import (
    AudioDone,
    Failed,
    Item,
    ItemTruncated,
    Reply,
    ReplyDone,
    TranscriptDone,
    Usage,
)
from icebreaker.engine.reply import Speech, Status
from icebreaker.engine.shared import Shared

__all__ = ["Ending"]


class Ending:
    """Ends replies in two steps: the device lets go of one, and when its sound was sent (or cut) that is told."""

    def __init__(self, live: Shared) -> None:
        self.live = live

    def announce(self, speech: Speech) -> None:
        """Put the message that is going to be into the conversation."""
        if speech.announced or not speech.command.in_conversation:
            return
        speech.announced = True
        item = Item(id=speech.item_id, role="assistant", status="in_progress")
        self.live.added(item, self.live.memory.add(Remembered(item)))

    def retire(self, speech: Speech, status: Status, reason: str, now_s: float) -> None:
        """The device has made all of it, or is to stop: take what it made, and remember that as if it were heard."""
        live = self.live
        if live.slot is not None and speech.begun and (made := live.device.row(live.slot).reply) is not None:
            speech.made = made if live.settings.alignment_layers else replace(made, hidden=())  # else of no more use
            speech.spans = tuple(live.device.dialogue.speaker.spans(made))
            live.device.stop_speaking(live.slot)
        speech.making, speech.status, speech.reason, live.changed = False, status, reason, True
        said, speech.calls = self._read(speech)
        if status in ("completed", "incomplete"):
            for event in speech.write(said, now_s, last=True):
                self.announce(speech)
                live.emit(event)
        self._remember(speech, speech.samples, speech.samples)

    def cut(self, speech: Speech, status: Status, reason: str, now_s: float, *, sent: int, kept: int) -> None:
        """It ends before its end: ``sent`` samples were sent, of which ``kept`` count as heard."""
        if speech.making:
            self.retire(speech, status, reason, now_s)
        speech.status, speech.reason, speech.samples = status, reason, sent
        self.find_words(speech)
        self._remember(speech, sent, kept)

    def find_words(self, speech: Speech) -> None:
        """Find out, once, where its words end, since some of them were not heard."""
        if speech.made is not None and speech.spans and all(span.words is None for span in speech.spans):
            speech.spans = self.live.device.dialogue.speaker.spans(speech.made, words=True)
            self.live.memory.set_spans(speech.item_id, speech.spans)

    def tell(self, speech: Speech) -> None:
        """All of its sound was sent, or will never be."""
        live, speech.done = self.live, True
        if speech.text or not speech.calls:
            live.emit(TranscriptDone(response_id=speech.response_id, item_id=speech.item_id, text=speech.text))
            if speech.config.output == "audio":
                live.emit(AudioDone(response_id=speech.response_id, item_id=speech.item_id))
        items = [self._current(item) for item in speech.items]
        if speech.status == "completed":
            items += self._call(speech, speech.calls, named=not items)
        reply = Reply(
            status=speech.status, reason=speech.reason, items=tuple(items), usage=_usage(speech),
            latency_ms=dict(speech.latency_ms), audio_ms=1000 * speech.samples / speech.sample_rate,
        )  # fmt: skip
        live.emit(ReplyDone(response_id=speech.response_id, reply=reply))
        live.changed = True

    def truncate(self, speech: Speech, kept: int) -> None:
        """It was told to be done, and of its sound, some of which still played, only ``kept`` samples were heard."""
        self.find_words(speech)
        entry = self.live.memory.set_heard(speech.item_id, kept)
        self.live.changed = True
        ms = 1000 * kept / speech.sample_rate
        self.live.emit(ItemTruncated(item_id=speech.item_id, audio_end_ms=ms, text=entry.item.text))

    def _read(self, speech: Speech) -> tuple[str, list[Called]]:
        """What was said, and the functions that were called."""
        text = speech.made.text if speech.made else ""
        if speech.for_ear is None or speech.made is None:
            return text, []
        try:
            return parse(speech.forced + text)
        except ValueError as error:
            self.live.emit(Failed(code="bad_function_call", message=f"{error}; ask again", command=speech.command))
            return speech.text, []

    def _remember(self, speech: Speech, sent: int, kept: int) -> None:
        """Keep the message: all its tokens, of which those count whose sound lies within ``kept`` samples."""
        memory, made = self.live.memory, speech.made
        whole = speech.status in ("completed", "incomplete")
        item = Item(
            id=speech.item_id, role="assistant", text=speech.text.strip(), audio_ms=1000 * sent / speech.sample_rate,
            status="completed" if speech.status == "completed" else "incomplete",
        )  # fmt: skip
        if not speech.announced or item.id not in memory.conversation:
            speech.items = [item] if speech.text else []
            return
        tokens = made.tokens if made else ()
        if speech.for_ear is not None and made is not None and speech.text != made.text.lstrip():
            tokens = tuple(self.live.device.llm.tokenizer.encode(speech.text, add_special_tokens=False))
        if speech.config.output == "text" or whole:
            spoken = speech.spans if speech.config.output == "audio" else ()
            memory.conversation.replace(Remembered(item, tokens=tokens, heard=len(tokens), spans=spoken))
        elif speech.spans:
            memory.conversation.replace(Remembered(item, tokens=tokens, heard=0, spans=speech.spans))
            memory.set_heard(item.id, kept)
        else:  # stopped before any of it was spoken
            memory.conversation.replace(Remembered(replace(item, text="")))
        speech.items = [memory.find(item.id).item]

    def _current(self, item: Item) -> Item:
        """As it stands in the conversation by now, if it does."""
        conversation = self.live.memory.conversation
        return conversation.find(item.id).item if item.id in conversation else item

    def _call(self, speech: Speech, calls: Sequence[Called], *, named: bool) -> list[Item]:
        items = []
        for index, call in enumerate(calls):
            item = Item(
                id=speech.item_id if named and index == 0 else Conversation.new_id(), kind="function_call",
                name=call.name, arguments=call.arguments, call_id=Conversation.new_id("call"),
            )  # fmt: skip
            if speech.command.in_conversation:
                self.live.added(item, self.live.memory.add(Remembered(item)))
            items.append(item)
        return items


def _usage(speech: Speech) -> Usage:
    return Usage(input_tokens=speech.input_tokens, output_tokens=len(speech.made.tokens) if speech.made else 0)

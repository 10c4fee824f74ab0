"""One scripted conversation. Knows no engine; a script says what it answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import numpy as np

from icebreaker.engine.conversation import Conversation, Entry, Refused
from icebreaker.engine.messages import (
    AddItem,
    Append,
    AudioDelta,
    AudioDone,
    Cancel,
    ClearAudio,
    Command,
    Commit,
    Committed,
    Configure,
    DeleteItem,
    Failed,
    Item,
    ItemAdded,
    ItemDeleted,
    ItemTruncated,
    Reply,
    ReplyDone,
    ReplyStarted,
    Respond,
    SessionConfig,
    SessionEvent,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    Transcribed,
    TranscriptDone,
    Truncate,
    Usage,
    Waveform,
)
from icebreaker.engine.outbox import Outbox
from icebreaker.engine.playback import Playback

__all__ = ["Script", "ScriptedSession"]

Script = Callable[[Sequence[Item], SessionConfig], str | Item]

SAMPLE_RATE = 16000  # of what is heard
WINDOW_SAMPLES = SAMPLE_RATE // 50  # 20 ms
LOUD = 0.01  # level (root mean square) that counts as speech
MODEL_SILENCE_MS = 400  # that ends a turn where a real engine would ask its model
TONE_HZ = 440.0
MS_PER_LETTER = 60.0
DELTA_MS = 200.0


@dataclass
class _Said:
    """The newest answer of a session."""

    reply: ReplyStarted
    text: str  # all that the script wants said
    started_s: float
    playback: Playback
    sent: str = ""
    done: bool = False
    task: asyncio.Task[None] | None = None

    def heard(self, now_s: float) -> str:
        """What of it can have been heard by now."""
        if self.reply.output == "text":
            return self.sent
        return self.text[: _letters(self.text, self.playback.at(now_s).played_ms)]


class ScriptedSession:
    """One scripted conversation; see ``SessionLike``."""

    def __init__(
        self, script: Script, sample_rate: int, delta_s: float, config: SessionConfig, session_id: str | None = None,
        keep: "Callable[[ScriptedSession], None]" = lambda session: None,
    ) -> None:  # fmt: skip
        self.script, self.sample_rate, self.delta_s, self.config = script, sample_rate, delta_s, config
        self.conversation = Conversation()
        self._id = session_id or Conversation.new_id("sess")
        self._keep = keep  # is given the session when its items have changed
        self._outbox = Outbox()
        self._reader = 0
        self._heard = 0  # samples of the session's input so far
        self._buffer: list[Waveform] = []  # not yet committed
        self._rest = np.zeros(0, np.float32)  # less than a window
        self._speech: str | None = None  # item id of the utterance
        self._quiet_ms = 0.0
        self._said: _Said | None = None  # the newest answer
        self._replies = count(1)

    @property
    def id(self) -> str:
        """What a client resumes by."""
        return self._id

    @property
    def replying(self) -> bool:
        """Whether an answer is being sent."""
        return self._said is not None and not self._said.done

    def enter(self, *, resumed: bool) -> int:
        """Begin to read; a resumed conversation tells its items first."""
        self._outbox.clear()
        if resumed:
            previous: str | None = None
            for item in self.conversation.items:
                self._emit(ItemAdded(item=item, previous_item_id=previous))
                previous = item.id
        self._reader = self._outbox.attach()
        return self._reader

    def leave(self, reader: int) -> bool:
        """Stop; False where somebody else has taken over."""
        if reader == self._reader:
            self._stop("client_cancelled")
        return reader == self._reader

    def close(self) -> None:
        """End for good."""
        self._stop("client_cancelled")
        self._outbox.close()

    def events(self) -> AsyncIterator[SessionEvent]:
        """Everything that happens, in order."""
        return self._outbox.read(self._reader)

    def push(self, command: Command) -> None:
        """Hand over a command."""
        try:
            self._do(command)
        except Refused as refusal:
            self._emit(Failed(code=refusal.code, message=str(refusal), command=command))

    def _do(self, command: Command) -> None:
        match command:
            case Configure(config=config):
                self.config = config
            case Append(waveform=waveform):
                self._hear(waveform)
            case Commit(item_id=item_id):
                self._commit(item_id or self._speech)
            case ClearAudio():
                self._buffer, self._speech = [], None
            case AddItem(item=item, previous_item_id=previous, waveform=waveform):
                ms = item.audio_ms if waveform is None else len(waveform) / SAMPLE_RATE * 1000
                self._add(replace(item, audio_ms=ms), previous)
            case DeleteItem(item_id=item_id):
                self.conversation.delete(item_id)
                self._emit(ItemDeleted(item_id=item_id))
            case Truncate(item_id=item_id, audio_end_ms=ms):
                self._truncate(item_id, ms)
            case Respond():
                self._respond(command)
            case Cancel():
                if not self.replying:
                    raise Refused("no_active_reply", "expected a reply to cancel, there is none; nothing to do")
                self._stop("client_cancelled")

    # Listening.

    def _hear(self, waveform: Waveform) -> None:
        samples = np.concatenate([self._rest, np.asarray(waveform, np.float32)])
        whole = len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES
        self._rest = samples[whole:]
        for window in samples[:whole].reshape(-1, WINDOW_SAMPLES):
            self._heard += WINDOW_SAMPLES
            self._buffer.append(window)
            if self.config.turns != "client":
                self._window(float(np.sqrt(np.mean(window**2))) >= LOUD)

    def _window(self, loud: bool) -> None:
        now_ms = self._heard / SAMPLE_RATE * 1000
        if self._speech is None:
            keep = max(1, self.config.prefix_padding_ms * SAMPLE_RATE // 1000 // WINDOW_SAMPLES)
            self._buffer = self._buffer[-keep:]
            if loud:
                self._speech, self._quiet_ms = Conversation.new_id(), 0.0
                self._emit(SpeechStarted(item_id=self._speech, at_ms=now_ms - 20))
                if self.config.interrupt_response:
                    self._stop("turn_detected")
            return
        self._quiet_ms = 0.0 if loud else self._quiet_ms + 20
        limit = self.config.silence_ms if self.config.turns == "silence" else MODEL_SILENCE_MS
        if self._quiet_ms >= limit:
            self._emit(SpeechStopped(item_id=self._speech, at_ms=now_ms))
            self._commit(self._speech)
            if self.config.create_response and not self.replying:
                self._respond(Respond())

    def _commit(self, item_id: str | None) -> None:
        if not self._buffer:
            raise Refused("empty_audio", "expected audio to commit, the buffer is empty; append some first")
        ms = sum(map(len, self._buffer)) / SAMPLE_RATE * 1000
        self._buffer, self._speech = [], None
        item = Item(id=item_id or Conversation.new_id(), role="user", audio_ms=ms)
        self._emit(Committed(item_id=item.id, previous_item_id=self.conversation.last_id))
        self._add(item, None)
        if self.config.transcribe:
            text = f"speech of {ms / 1000:.1f} seconds"
            self.conversation.change(item.id, text=text)
            self._emit(Transcribed(item_id=item.id, text=text, seconds=ms / 1000))

    def _add(self, item: Item, previous: str | None) -> None:
        before = self.conversation.add(Entry(item), previous)
        self._emit(ItemAdded(item=item, previous_item_id=before))

    # Answering.

    def _respond(self, command: Respond) -> None:
        if self.replying:
            raise Refused("already_replying", "expected no reply under way, there is one; cancel it first")
        response_id = command.response_id or f"resp_{self.id[5:15]}_{next(self._replies)}"
        config = replace(
            self.config,
            instructions=self.config.instructions if command.instructions is None else command.instructions,
            output=command.output or self.config.output,
            tools=self.config.tools if command.tools is None else command.tools,
        )
        answer = self.script(self.conversation.items, config)
        item_id = answer.id if isinstance(answer, Item) else Conversation.new_id()
        previous = self.conversation.last_id
        started = ReplyStarted(
            response_id=response_id, item_id=item_id, previous_item_id=previous, output=config.output
        )  # fmt: skip
        self._emit(started)
        if isinstance(answer, Item):
            if command.in_conversation:
                self._add(answer, None)
            self._emit(ReplyDone(response_id=response_id, reply=Reply(status="completed", items=(answer,))))
            return
        item = Item(id=item_id, role="assistant", status="in_progress")
        if command.in_conversation:
            self._add(item, None)
        now = time.monotonic()
        self._said = said = _Said(started, answer, now, Playback(at_s=now))
        said.task = asyncio.get_running_loop().create_task(self._speak(said))

    async def _speak(self, said: "_Said") -> None:
        reply = said.reply
        for position, word in _words(said.text):
            await asyncio.sleep(self.delta_s)
            said.sent += word
            self._emit(TextDelta(response_id=reply.response_id, item_id=reply.item_id, text=word))
            if reply.output == "audio":
                self._tone(said, position * MS_PER_LETTER, len(word) * MS_PER_LETTER)
        self._finish(said, "completed", "")

    def _finish(self, said: "_Said", status: Literal["completed", "cancelled"], reason: str) -> None:
        reply, now, said.done = said.reply, time.monotonic(), True
        self._emit(TranscriptDone(response_id=reply.response_id, item_id=reply.item_id, text=said.sent))
        if reply.output == "audio":
            self._emit(AudioDone(response_id=reply.response_id, item_id=reply.item_id))
        heard = said.heard(now) if reason == "turn_detected" else said.sent
        item = Item(
            id=reply.item_id, role="assistant", text=heard, audio_ms=said.playback.sent_ms,
            status="completed" if status == "completed" else "incomplete",
        )  # fmt: skip
        if item.id in self.conversation:
            self.conversation.replace(Entry(item))
        done = Reply(
            status=status, reason=reason, items=(item,), usage=Usage(output_tokens=len(said.sent.split())),
            latency_ms={"first sound": 1000 * (now - said.started_s)}, audio_ms=said.playback.sent_ms,
        )  # fmt: skip
        self._emit(ReplyDone(response_id=reply.response_id, reply=done))

    def _tone(self, said: "_Said", start_ms: float, ms: float) -> None:
        rate = self.sample_rate
        for offset in np.arange(0.0, ms, DELTA_MS).tolist():
            first, stop = (round((start_ms + at) * rate / 1000) for at in (offset, min(ms, offset + DELTA_MS)))
            sound = 0.1 * np.sin(2 * np.pi * TONE_HZ * np.arange(first, stop) / rate)
            self._emit(
                AudioDelta(
                    response_id=said.reply.response_id, item_id=said.reply.item_id,
                    waveform=sound.astype(np.float32), start_ms=start_ms + offset,
                )
            )  # fmt: skip
        said.playback = said.playback.send(ms, time.monotonic())

    def _stop(self, reason: str) -> None:
        said = self._said
        if said is None:
            return
        if not said.done:
            if said.task is not None:
                said.task.cancel()
            self._finish(said, "cancelled", reason)
        elif reason == "turn_detected" and said.reply.output == "audio":  # all was sent; not all was played
            heard, item_id = said.heard(time.monotonic()), said.reply.item_id
            if item_id in self.conversation and len(heard) < len(self.conversation.find(item_id).item.text):
                self.conversation.change(item_id, text=heard, status="incomplete")

    def _truncate(self, item_id: str, audio_end_ms: float) -> None:
        item = self.conversation.find(item_id).item
        if item.role != "assistant":
            raise Refused("invalid", f"expected an assistant's message to truncate, {item_id!r} is none")
        whole = self._said.text if self._said and self._said.reply.item_id == item_id else item.text
        heard = whole[: _letters(whole, audio_end_ms)]
        self.conversation.change(item_id, text=heard, audio_ms=min(audio_end_ms, item.audio_ms))
        self._emit(ItemTruncated(item_id=item_id, audio_end_ms=audio_end_ms, text=heard))

    def _emit(self, event: SessionEvent) -> None:
        self._outbox.put([event])
        if isinstance(event, ItemAdded | ItemDeleted | ItemTruncated | ReplyDone | Transcribed):
            self._keep(self)


def _words(text: str) -> list[tuple[int, str]]:
    """Words with the space before them, and where each begins."""
    words, start = [], 0
    for end in [i for i, letter in enumerate(text) if letter == " " and i] + [len(text)]:
        words.append((start, text[start:end]))
        start = end
    return words


def _letters(text: str, ms: float) -> int:
    """How much of ``text`` was said after ``ms``, in whole words."""
    limit = int(ms / MS_PER_LETTER)
    return len(text) if limit >= len(text) else max((end for end, _ in _words(text) if end <= limit), default=0)

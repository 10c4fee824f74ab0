"""One scripted conversation. Knows no engine; a script says what it answers."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import Literal

import numpy as np

from icebreaker.engine import messages as m
from icebreaker.engine.conversation import Conversation, Entry, Refused
from icebreaker.engine.outbox import Outbox
from icebreaker.engine.scripted_answer import MS_PER_LETTER, Said, heard_letters, tone, words
from icebreaker.engine.scripted_ear import SAMPLE_RATE, WINDOW_SAMPLES, ScriptedEar, Sign
from icebreaker.engine.valve import Valve

__all__ = ["Script", "ScriptedSession"]

Script = Callable[[Sequence[m.Item], m.SessionConfig], str | m.Item]

MODEL_SILENCE_MS = 400  # that ends a turn where a real engine would ask its model
LOOK_S = 0.01  # between looks whether all of an answer was sent


class ScriptedSession:
    """One scripted conversation; see ``SessionLike``."""

    def __init__(
        self, script: Script, sample_rate: int, delta_s: float, config: m.SessionConfig, session_id: str | None = None,
        keep: "Callable[[ScriptedSession], None]" = lambda session: None, lead_s: float = math.inf,
        confirm_ms: float = 0.0,
    ) -> None:  # fmt: skip
        self.script, self.sample_rate, self.delta_s, self.config = script, sample_rate, delta_s, config
        self.conversation = Conversation()
        self._id = session_id or Conversation.new_id("sess")
        self._keep = keep  # is given the session when its items have changed
        self._valve = Valve(sample_rate, jitter_s=0.0)
        self._valve.lead_s = lead_s
        self._clock = asyncio.get_running_loop().time
        self._outbox = Outbox(self._valve, self._clock)
        self._valve.pauses = config.playback_hold
        self._ear = ScriptedEar(confirm_ms)
        self._reader = 0
        self._heard = 0  # samples of the session's input so far
        self._buffer: list[m.Waveform] = []  # not yet committed
        self._rest = np.zeros(0, np.float32)  # less than a window
        self._speech: str | None = None  # item id of the utterance
        self._said: Said | None = None  # the newest answer
        self._replies = count(1)

    @property
    def id(self) -> str:
        """What a client resumes by."""
        return self._id

    @property
    def replying(self) -> bool:
        """Whether an answer is being sent."""
        return self._said is not None and not self._said.done

    @property
    def _audible(self) -> bool:
        return self.replying or self._valve.dry_in(self._clock()) > 0

    def enter(self, *, resumed: bool) -> int:
        """Begin to read; a resumed conversation tells its items first."""
        self._outbox.clear()
        if resumed:
            previous: str | None = None
            for item in self.conversation.items:
                self._emit(m.ItemAdded(item=item, previous_item_id=previous))
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

    def events(self) -> AsyncIterator[m.SessionEvent]:
        """Everything that happens, in order."""
        return self._outbox.read(self._reader)

    def push(self, command: m.Command) -> None:
        """Hand over a command."""
        try:
            self._do(command)
        except Refused as refusal:
            self._emit(m.Failed(code=refusal.code, message=str(refusal), command=command))

    def _do(self, command: m.Command) -> None:
        match command:
            case m.Configure(config=config):
                self.config, self._valve.pauses = config, config.playback_hold
            case m.Append(waveform=waveform):
                self._hear(waveform)
            case m.Commit(item_id=item_id):
                self._commit(item_id or self._speech)
                self._valve.release()
            case m.ClearAudio():
                self._buffer, self._speech = [], None
                self._ear.forget()
                self._valve.release()
            case m.AddItem(item=item, previous_item_id=previous, waveform=waveform):
                ms = item.audio_ms if waveform is None else len(waveform) / SAMPLE_RATE * 1000
                self._add(replace(item, audio_ms=ms), previous)
            case m.DeleteItem(item_id=item_id):
                self.conversation.delete(item_id)
                self._emit(m.ItemDeleted(item_id=item_id))
            case m.Truncate(item_id=item_id, audio_end_ms=ms):
                self._truncate(item_id, ms)
            case m.Respond():
                self._respond(command)
            case m.Cancel():
                if not self.replying:
                    raise Refused("no_active_reply", "expected a reply to cancel, there is none; nothing to do")
                self._stop("client_cancelled")

    # Listening.

    def _hear(self, waveform: m.Waveform) -> None:
        samples = np.concatenate([self._rest, np.asarray(waveform, np.float32)])
        whole = len(samples) // WINDOW_SAMPLES * WINDOW_SAMPLES
        self._rest = samples[whole:]
        for window in samples[:whole].reshape(-1, WINDOW_SAMPLES):
            self._heard += WINDOW_SAMPLES
            self._buffer.append(window)
            if self.config.turns != "client":
                self._window(window)

    def _window(self, window: m.Waveform) -> None:
        now_ms = self._heard / SAMPLE_RATE * 1000
        if self._ear.started_ms is None:
            keep = max(1, self.config.prefix_padding_ms * SAMPLE_RATE // 1000 // WINDOW_SAMPLES)
            self._buffer = self._buffer[-keep:]
        limit = self.config.silence_ms if self.config.turns == "silence" else MODEL_SILENCE_MS
        for sign in self._ear.hear(window, now_ms, limit, answering=self._audible):
            self._heed(sign, now_ms)

    def _heed(self, sign: Sign, now_ms: float) -> None:
        match sign:
            case Sign.OPENED:
                self._speech = Conversation.new_id()
                if self.config.interrupt_response and self._audible:
                    self._valve.hold(self._clock())
            case Sign.MEANT:
                assert self._speech is not None
                self._emit(m.SpeechStarted(item_id=self._speech, at_ms=self._ear.started_ms or 0.0))
                if self.config.interrupt_response:
                    self._stop("turn_detected")
                self._valve.release()
            case Sign.DROPPED:
                self._speech = None
                self._valve.release()
            case Sign.ENDED:
                assert self._speech is not None
                self._emit(m.SpeechStopped(item_id=self._speech, at_ms=now_ms))
                self._commit(self._speech)
                if self.config.create_response and not self.replying:
                    self._respond(m.Respond())

    def _commit(self, item_id: str | None) -> None:
        if not self._buffer:
            raise Refused("empty_audio", "expected audio to commit, the buffer is empty; append some first")
        ms = sum(map(len, self._buffer)) / SAMPLE_RATE * 1000
        self._buffer, self._speech = [], None
        self._ear.forget()
        item = m.Item(id=item_id or Conversation.new_id(), role="user", audio_ms=ms)
        self._emit(m.Committed(item_id=item.id, previous_item_id=self.conversation.last_id))
        self._add(item, None)
        if self.config.transcribe:
            text = f"speech of {ms / 1000:.1f} seconds"
            self.conversation.change(item.id, text=text)
            self._emit(m.Transcribed(item_id=item.id, text=text, seconds=ms / 1000))

    def _add(self, item: m.Item, previous: str | None) -> None:
        before = self.conversation.add(Entry(item), previous)
        self._emit(m.ItemAdded(item=item, previous_item_id=before))

    # Answering.

    def _respond(self, command: m.Respond) -> None:
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
        item_id = answer.id if isinstance(answer, m.Item) else Conversation.new_id()
        previous = self.conversation.last_id
        started = m.ReplyStarted(
            response_id=response_id, item_id=item_id, previous_item_id=previous, output=config.output
        )  # fmt: skip
        self._emit(started)
        if isinstance(answer, m.Item):
            if command.in_conversation:
                self._add(answer, None)
            self._emit(m.ReplyDone(response_id=response_id, reply=m.Reply(status="completed", items=(answer,))))
            return
        item = m.Item(id=item_id, role="assistant", status="in_progress")
        if command.in_conversation:
            self._add(item, None)
        now = self._clock()
        self._valve.begin(now)
        self._said = said = Said(started, answer, now)
        said.task = asyncio.get_running_loop().create_task(self._speak(said))

    async def _speak(self, said: Said) -> None:
        reply = said.reply
        for position, word in words(said.text):
            await asyncio.sleep(self.delta_s)
            said.sent += word
            self._emit(m.TextDelta(response_id=reply.response_id, item_id=reply.item_id, text=word))
            if reply.output == "audio":
                for delta in tone(reply, position * MS_PER_LETTER, len(word) * MS_PER_LETTER, self.sample_rate):
                    self._emit(delta)
        while self._valve.is_waiting:
            await asyncio.sleep(LOOK_S)
        self._finish(said, "completed", "")

    def _finish(self, said: Said, status: Literal["completed", "cancelled"], reason: str) -> None:
        reply, now, said.done = said.reply, self._clock(), True
        self._valve.cut()
        played, sent_ms = self._valve.playback(now).played_ms, 1000 * self._valve.sent_samples / self.sample_rate
        self._emit(m.TranscriptDone(response_id=reply.response_id, item_id=reply.item_id, text=said.sent))
        if reply.output == "audio":
            self._emit(m.AudioDone(response_id=reply.response_id, item_id=reply.item_id))
        heard = said.sent if status == "completed" else said.heard(played if reason == "turn_detected" else sent_ms)
        item = m.Item(
            id=reply.item_id, role="assistant", text=heard, audio_ms=sent_ms,
            status="completed" if status == "completed" else "incomplete",
        )  # fmt: skip
        if item.id in self.conversation:
            self.conversation.replace(Entry(item))
        done = m.Reply(
            status=status, reason=reason, items=(item,), usage=m.Usage(output_tokens=len(said.sent.split())),
            latency_ms={"first sound": 1000 * (now - said.started_s)}, audio_ms=sent_ms,
        )  # fmt: skip
        self._emit(m.ReplyDone(response_id=reply.response_id, reply=done))

    def _stop(self, reason: str) -> None:
        said = self._said
        if said is None:
            return
        if reason == "turn_detected":
            self._valve.stop(self._clock())  # its client stops playing
        if not said.done:
            if said.task is not None:
                said.task.cancel()
            self._finish(said, "cancelled", reason)
        elif reason == "turn_detected" and said.reply.output == "audio":  # all was sent; not all was played
            heard, item_id = said.heard(self._valve.playback(self._clock()).played_ms), said.reply.item_id
            if item_id in self.conversation and len(heard) < len(self.conversation.find(item_id).item.text):
                self.conversation.change(item_id, text=heard, status="incomplete")

    def _truncate(self, item_id: str, audio_end_ms: float) -> None:
        item = self.conversation.find(item_id).item
        if item.role != "assistant":
            raise Refused("invalid", f"expected an assistant's message to truncate, {item_id!r} is none")
        whole = self._said.text if self._said and self._said.reply.item_id == item_id else item.text
        heard = whole[: heard_letters(whole, audio_end_ms)]
        self.conversation.change(item_id, text=heard, audio_ms=min(audio_end_ms, item.audio_ms))
        self._emit(m.ItemTruncated(item_id=item_id, audio_end_ms=audio_end_ms, text=heard))

    def _emit(self, event: m.SessionEvent) -> None:
        self._outbox.put([event])
        if isinstance(event, m.ItemAdded | m.ItemDeleted | m.ItemTruncated | m.ReplyDone | m.Transcribed):
            self._keep(self)

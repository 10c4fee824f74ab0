"""The assistant's half of a live conversation: replies that start, are sent, played, stopped and remembered."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor

from icebreaker.dialogue.state import Manner
from icebreaker.dialogue.state import Reply as DeviceReply
from icebreaker.engine.conversation import Conversation, Refused
from icebreaker.engine.functions import Called, declared, forced_start, parse
from icebreaker.engine.memory import Remembered
from icebreaker.engine.messages import (
    AudioDone,
    Failed,
    Item,
    ItemTruncated,
    Reply,
    ReplyDone,
    ReplyStarted,
    Respond,
    SessionConfig,
    TranscriptDone,
    Usage,
)
from icebreaker.engine.pacing import NEVER_HEARD
from icebreaker.engine.playback import Playback
from icebreaker.engine.reply import Speech
from icebreaker.engine.shared import Shared
from icebreaker.text.heard import SpokenSegment

__all__ = ["Talking"]

SEED_STEP = 1_000_003  # between the seeds of a session's replies
LEAST_TOKENS = 16  # a reply that has no room for more is not begun
Status = Literal["completed", "cancelled", "failed", "incomplete"]


class Talking:
    """Replies out, one at a time."""

    def __init__(self, live: Shared) -> None:
        self.live = live
        self.speech: Speech | None = None  # the newest reply; it may be over
        self.waiting: tuple[Respond, float | None] | None = None  # a reply that follows the present one
        self.replies = 0  # begun so far; their seeds depend on it
        self._names = count(1)

    @property
    def generating(self) -> bool:
        """Whether a reply is being made."""
        return self.speech is not None and not self.speech.done

    def audible(self, now_s: float) -> bool:
        """Whether a reply is being made or played."""
        return self.speech is not None and self.speech.audible(now_s)

    # Start.

    def start_or_wait(self, command: Respond, now_s: float, speech_end_s: float | None = None) -> None:
        """Reply, or do it as soon as the present reply is over."""
        if self.generating:
            self.waiting = command, speech_end_s
        else:
            self.start(command, now_s, speech_end_s=speech_end_s)

    def start(self, command: Respond, now_s: float, *, speech_end_s: float | None = None, nudge: bool = False) -> None:
        """Decide to reply; the device begins when the session has a slot.

        Raises:
            Refused: a reply is under way.
        """
        if self.generating:
            raise Refused("already_replying", "expected no reply under way, there is one; cancel it first")
        lead_s = self.speech.playback.at(now_s).lead_ms / 1000 if self.speech is not None else 0.0
        config = self._config(command)
        name = command.response_id or Conversation.new_id("resp")
        self.speech = speech = Speech(
            command, config, name, Conversation.new_id(), now_s, Playback(at_s=now_s + lead_s),
            self.live.device.dialogue.sample_rate, speech_end_s=speech_end_s, nudge=nudge,
        )  # fmt: skip
        template = str(getattr(self.live.device.llm.tokenizer, "chat_template", "") or "")
        speech.forced = forced_start(config.tool_choice, template) if config.tools else ""
        self.live.counts["replies"] += 1
        self.replies += 1
        self.live.emit(
            ReplyStarted(
                response_id=name, item_id=speech.item_id, output=config.output,
                previous_item_id=self.live.memory.conversation.last_id,
            )
        )  # fmt: skip
        if speech.for_ear is None:
            self._announce(speech)

    def _config(self, command: Respond) -> SessionConfig:
        config = self.live.config
        return replace(
            config,
            instructions=config.instructions if command.instructions is None else command.instructions,
            output=command.output or config.output,
            max_output_tokens=command.max_output_tokens or config.max_output_tokens,
            tools=config.tools if command.tools is None else command.tools,
            tool_choice=command.tool_choice or config.tool_choice,
        )

    def _announce(self, speech: Speech) -> None:
        """Put the message that is going to be into the conversation."""
        if speech.announced or not speech.command.in_conversation:
            return
        speech.announced = True
        item = Item(id=speech.item_id, role="assistant", status="in_progress")
        self.live.added(item, self.live.memory.add(Remembered(item)))

    def reading(self, config: SessionConfig, *, room: int, opening: bool = False, nudge: bool = False) -> list[int]:
        """Keys of the conversation as ``config`` has it read."""
        system = self.live.settings.system if config.instructions is None else config.instructions
        tools: Sequence[dict[str, Any]] = declared(config.tools) if config.tool_choice != "none" else ()
        return self.live.memory.reading(system, tools, room=room, opening=opening, nudge=nudge)

    def prepare(self, now_s: float) -> None:
        """Have the slot begin a reply that was decided on."""
        speech, live = self.speech, self.live
        if speech is None or speech.done or speech.begun or live.slot is None:
            return
        speech.begun = True
        wanted = speech.config.max_output_tokens or live.settings.max_text_tokens
        try:
            keys = self._keys(speech, min(wanted, max(LEAST_TOKENS, live.memory.capacity // 3)))
        except Refused as refusal:
            live.emit(Failed(code=refusal.code, message=str(refusal), command=speech.command))
            self._finish("failed", refusal.code, now_s)
            return
        speech.input_tokens, speech.max_tokens = len(keys), min(wanted, live.memory.capacity - len(keys))
        inputs = live.device.read(live.slot, keys, live.memory.blobs, fresh=True)
        assert inputs is not None
        generator = torch.Generator(inputs.device).manual_seed(speech.config.seed + SEED_STEP * self.replies)
        live.device.answer(live.slot, inputs, self._manner(speech), generator)

    def _keys(self, speech: Speech, room: int) -> list[int]:
        keys = self.reading(speech.config, room=room, nudge=speech.nudge)
        forced = self.live.device.llm.tokenizer.encode(speech.forced, add_special_tokens=False) if speech.forced else []
        return [*keys, *forced]

    def _manner(self, speech: Speech) -> Manner:
        text, config = self.live.settings.text, speech.config
        if config.temperature is not None:
            top_k = 0 if text.top_k == 1 and config.temperature > 0 else text.top_k
            text = replace(text, temperature=config.temperature, top_k=top_k)
        return Manner(text, speech.max_tokens, speech.for_ear, config.output == "audio")

    def reread(self) -> None:
        """What stands before the reply has changed."""
        speech, live = self.speech, self.live
        if speech is None or speech.done or not speech.begun or live.slot is None:
            return
        keys = self._keys(speech, room=len(self._made().tokens) + LEAST_TOKENS)
        live.device.rebase(live.slot, keys, live.memory.blobs)

    # Go on.

    def lead_s(self, now_s: float) -> float | None:
        """Seconds of sound that wait to be played, ``NEVER_HEARD`` before the first; None: nothing is to be made."""
        speech = self.speech
        if speech is None or speech.done or not speech.begun:
            return None
        return speech.lead_s(now_s) if speech.samples else NEVER_HEARD

    @property
    def is_awaited(self) -> bool:
        """Whether a reply has begun and has no sound yet."""
        return self.speech is not None and self.speech.begun and not self.speech.done and not self.speech.samples

    @property
    def nudged(self) -> bool:
        """Whether the newest reply was one to silence: one is enough."""
        return self.speech is not None and self.speech.nudge

    @property
    def needs_text(self) -> bool:
        """Whether a reply has to have more text before there can be a first sound."""
        speech = self.speech
        if speech is None or speech.done or not speech.begun or speech.samples or self.live.slot is None:
            return False
        made = self._made()
        return not (made.text_done or made.speaking or made.queue) and speech.config.output == "audio"

    @property
    def has_to_speak(self) -> bool:
        """Whether there is text to be spoken."""
        made = self._made()
        return made.speaking is not None or bool(made.queue) or made.units is not None

    def advance(self, sound: Tensor | None, now_s: float) -> None:
        """Send what the device made of the reply in this tick."""
        speech = self.speech
        if speech is None or speech.done or not speech.begun or self.live.slot is None:
            return
        speech.playback = speech.playback.at(now_s)
        made = self._made()
        for event in speech.write(made.text, now_s):
            self._announce(speech)
            self.live.emit(event)
        if sound is not None and len(sound):
            if not speech.samples:
                self.live.echo.begin(self.live.buffer.stop)
            dry = speech.playback.underruns
            event, for_echo = speech.sound(sound, now_s)
            self.live.echo.play(for_echo)
            self.live.counts["underruns"] += speech.playback.underruns - dry
            if speech.samples == len(sound):
                self.live.first_audio_ms.append(speech.latency_ms["first sound"])
            self.live.emit(event)
        if made.done:
            cut = len(made.tokens) >= speech.max_tokens
            self._finish("incomplete" if cut else "completed", "max_output_tokens" if cut else "", now_s)

    def _made(self) -> DeviceReply:
        assert self.live.slot is not None
        reply = self.live.device.row(self.live.slot).reply
        assert reply is not None
        return reply

    # Stop.

    def stop(self, reason: Literal["turn_detected", "client_cancelled"], now_s: float) -> None:
        """Stop to speak. After a barge-in what was not played is forgotten; after a cancel, what was not sent."""
        speech = self.speech
        if speech is None:
            return
        if reason == "turn_detected" and speech.audible(now_s):
            self.live.counts["barge_ins"] += 1
        speech.playback = speech.playback.at(now_s)
        if not speech.done:
            self._finish("cancelled", reason, now_s)
        elif reason == "turn_detected" and speech.announced and speech.samples and speech.playback.lead_ms > 0:
            samples = speech.played_samples(now_s)
            entry = self.live.memory.set_heard(speech.item_id, samples)
            self.live.changed = True
            ms = 1000 * samples / speech.sample_rate
            self.live.emit(ItemTruncated(item_id=speech.item_id, audio_end_ms=ms, text=entry.item.text))
        if reason == "turn_detected":
            self.silence(now_s)

    def silence(self, now_s: float) -> None:
        """The client plays no more of it."""
        if self.speech is not None:
            now = self.speech.playback.at(now_s)
            self.speech.playback = replace(now, sent_ms=now.played_ms)
            self.live.echo.stop(self.live.buffer.stop)

    def fail(self, now_s: float) -> None:
        """The device could not go on with it."""
        if self.generating:
            self._finish("failed", "internal", now_s)

    def _finish(self, status: Status, reason: str, now_s: float) -> None:
        speech, live = self.speech, self.live
        assert speech is not None
        made: DeviceReply | None = None
        spans: tuple[SpokenSegment, ...] = ()
        if live.slot is not None and speech.begun and live.device.row(live.slot).reply is not None:
            made = self._made()
            spans = tuple(live.device.dialogue.speaker.spans(made))
            live.device.stop_speaking(live.slot)
        said, calls = self._read(speech, made)
        if status in ("completed", "incomplete"):
            for event in speech.write(said, now_s, last=True):
                self._announce(speech)
                live.emit(event)
        played = speech.played_samples(now_s)
        speech.done = True
        items = self._remember(speech, made, spans, status, speech.samples if reason != "turn_detected" else played)
        if speech.text or not calls:
            live.emit(TranscriptDone(response_id=speech.response_id, item_id=speech.item_id, text=speech.text))
            if speech.config.output == "audio":
                live.emit(AudioDone(response_id=speech.response_id, item_id=speech.item_id))
        if status == "completed":
            items += self._call(speech, calls, named=not items)
        used = Usage(input_tokens=speech.input_tokens, output_tokens=len(made.tokens) if made else 0)
        audio_ms = 1000 * speech.samples / speech.sample_rate
        reply = Reply(
            status=status, reason=reason, items=tuple(items), usage=used, latency_ms=dict(speech.latency_ms),
            audio_ms=audio_ms,
        )  # fmt: skip
        live.emit(ReplyDone(response_id=speech.response_id, reply=reply))
        live.changed = True

    def _read(self, speech: Speech, made: DeviceReply | None) -> tuple[str, list[Called]]:
        """What was said, and the functions that were called."""
        text = made.text if made else ""
        if speech.for_ear is None or made is None:
            return text, []
        try:
            return parse(speech.forced + text)
        except ValueError as error:
            self.live.emit(Failed(code="bad_function_call", message=f"{error}; ask again", command=speech.command))
            return speech.text, []

    def _remember(
        self, speech: Speech, made: DeviceReply | None, spans: tuple[SpokenSegment, ...], status: Status, kept: int
    ) -> list[Item]:
        """Keep the message: all its tokens, of which those count whose sound lies within ``kept`` samples."""
        live = self.live
        done = "completed" if status == "completed" else "incomplete"
        audio_ms = 1000 * speech.samples / speech.sample_rate
        item = Item(id=speech.item_id, role="assistant", text=speech.text.strip(), audio_ms=audio_ms, status=done)  # type: ignore[arg-type]
        if not speech.announced or item.id not in live.memory.conversation:
            return [item] if speech.text else []
        tokens = made.tokens if made else ()
        if speech.for_ear is not None and made is not None and speech.text != made.text.lstrip():
            tokens = tuple(live.device.llm.tokenizer.encode(speech.text, add_special_tokens=False))
        if speech.config.output == "text" or status in ("completed", "incomplete"):
            spoken = spans if speech.config.output == "audio" else ()
            live.memory.conversation.replace(Remembered(item, tokens=tokens, heard=len(tokens), spans=spoken))
        elif spans:
            live.memory.conversation.replace(Remembered(item, tokens=tokens, heard=0, spans=spans))
            live.memory.set_heard(item.id, kept)
        else:  # stopped before any of it was spoken
            live.memory.conversation.replace(Remembered(replace(item, text="")))
        return [live.memory.find(item.id).item]

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

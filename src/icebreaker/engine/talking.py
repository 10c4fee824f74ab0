"""The assistant's half of a live conversation: replies that start, are made, sent, held back and stopped."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from icebreaker.dialogue.state import Reply as DeviceReply
from icebreaker.engine.brief import LEAST_TOKENS, Brief
from icebreaker.engine.conversation import Conversation, Refused
from icebreaker.engine.ending import Ending
from icebreaker.engine.guessing import SEED_STEP, VOICE_SEED, Guessing, generators
from icebreaker.engine.memory import Remembered
from icebreaker.engine.messages import Failed, ReplyStarted, Respond, SessionConfig
from icebreaker.engine.pacing import GUESSED, NEVER_HEARD
from icebreaker.engine.reply import Speech
from icebreaker.engine.shared import Shared
from icebreaker.engine.valve import JITTER_S

__all__ = ["Talking"]


class Talking:
    """Replies out, one at a time."""

    def __init__(self, live: Shared) -> None:
        self.live = live
        self.brief, self.ending = Brief(live), Ending(live)
        self.guessing = Guessing(live, self.brief)
        self.speech: Speech | None = None  # the newest reply; it may be over
        self.waiting: tuple[Respond, float | None] | None = None  # a reply that follows the present one
        self.replies = 0  # begun so far; their seeds depend on it

    @property
    def making(self) -> bool:
        """Whether the device has a reply to make."""
        return self.speech is not None and self.speech.making

    @property
    def under_way(self) -> bool:
        """Whether a reply is being made or sent."""
        return self.speech is not None and not self.speech.done

    def audible(self, now_s: float) -> bool:
        """Whether a reply is being made, sent or played."""
        return self.under_way or (self.speech is not None and self.live.valve.dry_in(now_s) > 0)

    # Start.

    def start_or_wait(self, command: Respond, now_s: float, speech_end_s: float | None = None) -> None:
        """Reply, or do it as soon as the present reply is over."""
        if self.under_way:
            self.waiting = command, speech_end_s
        else:
            self.start(command, now_s, speech_end_s=speech_end_s)

    def start(self, command: Respond, now_s: float, *, speech_end_s: float | None = None, nudge: bool = False) -> None:
        """Decide to reply; the device begins when the session has a slot.

        Raises:
            Refused: a reply is under way.
        """
        if self.under_way:
            raise Refused("already_replying", "expected no reply under way, there is one; cancel it first")
        self.speech = speech = self._new(command, now_s, nudge=nudge)
        speech.speech_end_s = speech_end_s
        self.live.valve.begin(now_s)
        self.live.counts["replies"] += 1
        self.replies += 1
        self.live.emit(
            ReplyStarted(
                response_id=speech.response_id, item_id=speech.item_id, output=speech.config.output,
                previous_item_id=self.live.memory.conversation.last_id,
            )
        )  # fmt: skip
        if speech.for_ear is None:
            self.ending.announce(speech)

    def _new(self, command: Respond, now_s: float, *, nudge: bool = False) -> Speech:
        config = self.brief.config(command)
        return Speech(
            command, config, command.response_id or Conversation.new_id("resp"), Conversation.new_id(), now_s,
            self.live.device.dialogue.sample_rate, nudge=nudge, forced=self.brief.forced(config),
        )  # fmt: skip

    def prepare(self, now_s: float) -> None:
        """Have the slot begin a reply that was decided on, or go on with it if it was guessed."""
        speech, live = self.speech, self.live
        if speech is None or not speech.making or speech.begun or live.slot is None:
            return
        speech.begun = True
        wanted, room = self.brief.tokens(speech.config)
        try:
            keys = self.brief.keys(speech, room)
        except Refused as refusal:
            self.guessing.drop()
            live.emit(Failed(code=refusal.code, message=str(refusal), command=speech.command))
            self._end("failed", refusal.code, now_s, kept=0)
            return
        speech.input_tokens, speech.max_tokens = len(keys), min(wanted, live.memory.capacity - len(keys))
        manner, seeds = self.brief.manner(speech), self._seeds(speech.config, self.replies)
        if (guess := self.guessing.take(keys, manner, seeds)) is not None:
            self.advance(torch.cat(guess.sound) if guess.sound else None, now_s)
            return
        inputs = live.device.read(live.slot, keys, live.memory.blobs, fresh=True)
        assert inputs is not None
        live.device.answer(live.slot, inputs, manner, *generators(seeds, inputs.device))

    def _seeds(self, config: SessionConfig, reply: int) -> tuple[int, int]:
        """Of the words and the codes of the session's n-th reply."""
        words = config.seed + SEED_STEP * reply
        return words, words + VOICE_SEED

    def reading(self, config: SessionConfig, *, room: int, opening: bool = False) -> list[int]:
        """Keys of the conversation as ``config`` has it read."""
        return self.brief.reading(config, room=room, opening=opening)

    def reread(self) -> None:
        """What stands before the reply has changed."""
        speech, live = self.speech, self.live
        self.guessing.drop()
        if speech is None or not speech.making or not speech.begun or live.slot is None:
            return
        keys = self.brief.keys(speech, room=len(self._made().tokens) + LEAST_TOKENS)
        live.device.rebase(live.slot, keys, live.memory.blobs)

    # Guesses.

    def guess(
        self, said: Remembered, vectors: Tensor, count: int, step_aside: Callable[[], None], now_s: float
    ) -> None:  # fmt: skip
        """Begin the reply to the conversation with ``said`` at its end, in case the user is done.

        Args:
            said: the user's message so far.
            vectors: [n, D] all that the ears made of it.
            count: how many of them it would have.
            step_aside: frees the slot's own context.
            now_s: when.
        """
        speech = self._new(Respond(), now_s)
        keys = self.guessing.suppose(speech, said, vectors, count)
        if keys is not None:
            step_aside()
            self.guessing.begin(keys, speech, self._seeds(speech.config, self.replies + 1))

    # Go on.

    def lead_s(self, now_s: float) -> float | None:
        """Seconds of sound that wait to be played, ``NEVER_HEARD`` before the first; None: nothing is to be made.

        As for a listener who plays the first at once; never less than none.
        """
        speech, valve = self.speech, self.live.valve
        if speech is None or not speech.making or not speech.begun:
            return GUESSED if self.guessing.awaits_sound else None
        if not speech.samples:
            return NEVER_HEARD
        waiting_s = (speech.samples - valve.sent_samples) / speech.sample_rate
        return max(0.0, waiting_s + valve.playback(now_s).lead_ms / 1000 - JITTER_S)

    @property
    def is_awaited(self) -> bool:
        """Whether a reply has begun and has no sound yet."""
        return self.speech is not None and self.speech.begun and self.speech.making and not self.speech.samples

    @property
    def nudged(self) -> bool:
        """Whether the newest reply was one to silence: one is enough."""
        return self.speech is not None and self.speech.nudge

    @property
    def needs_text(self) -> bool:
        """Whether a reply has to have more text before there can be a first sound."""
        speech = self.speech
        if speech is None or not self.is_awaited or self.live.slot is None:
            return False
        made = self._made()
        return not (made.text_done or made.speaking or made.queue) and speech.config.output == "audio"

    @property
    def has_to_speak(self) -> bool:
        """Whether there is text to be spoken."""
        made = self._made()
        return made.speaking is not None or bool(made.queue) or made.units is not None

    def advance(self, sound: Tensor | None, now_s: float) -> None:
        """Tell what the device made of the reply in this tick; of a guess, keep it."""
        speech, guess = self.speech, self.guessing.guess
        if guess is not None and sound is not None and len(sound):
            guess.sound.append(sound)
        if guess is not None or speech is None or not speech.making or not speech.begun or self.live.slot is None:
            return
        made = self._made()
        for event in speech.write(made.text, now_s):
            self.ending.announce(speech)
            self.live.emit(event)
        if sound is not None and len(sound):
            event = speech.sound(sound, now_s)
            if speech.samples == len(sound):
                self.live.first_audio_ms.append(speech.latency_ms["first sound"])
            self.live.emit(event)
        if made.done:
            cut = len(made.tokens) >= speech.max_tokens
            reason = "max_output_tokens" if cut else ""
            self.ending.retire(speech, "incomplete" if cut else "completed", reason, now_s)

    def settle(self) -> None:
        """When all sound of a reply that is made was sent, it is done."""
        speech, sent = self.speech, self.live.valve.sent_samples
        if speech is not None and not speech.done and not speech.making and sent >= speech.samples:
            self.ending.tell(speech)

    def _made(self) -> DeviceReply:
        assert self.live.slot is not None
        reply = self.live.device.row(self.live.slot).reply
        assert reply is not None
        return reply

    # Stop.

    def hold(self, now_s: float) -> None:
        """Send nothing more until it is clear whether the user means to interrupt."""
        if self.live.config.interrupt_response and self.audible(now_s):
            self.live.valve.hold(now_s)

    def go_on(self) -> None:
        """It was no interruption: send on from the sample where it stopped."""
        self.live.valve.release()

    def stop(self, reason: Literal["turn_detected", "client_cancelled"], now_s: float) -> None:
        """Stop to speak. After a barge-in what was not played is forgotten; after a cancel, what was not sent."""
        speech, valve = self.speech, self.live.valve
        self.guessing.drop()
        if speech is None:
            return
        was_barged, was_playing = reason == "turn_detected", valve.dry_in(now_s) > 0
        self.live.counts["barge_ins"] += int(was_barged and self.audible(now_s))
        if was_barged:
            valve.stop(now_s)
            self.live.loudspeaker.stop(self.live.buffer.stop)
        if not speech.done:
            valve.cut()
            self._end("cancelled", reason, now_s, valve.played_samples(now_s) if was_barged else valve.sent_samples)
        elif was_barged and speech.announced and speech.samples and was_playing:
            self.ending.truncate(speech, valve.played_samples(now_s))

    def silence(self, now_s: float) -> None:
        """The client plays no more of it."""
        if self.speech is not None:
            self.live.valve.silence(now_s)
            self.live.loudspeaker.stop(self.live.buffer.stop)

    def fail(self, now_s: float) -> None:
        """The device could not go on with it."""
        if self.under_way:
            self.live.valve.cut()
            self._end("failed", "internal", now_s, self.live.valve.sent_samples)

    def _end(self, status: Literal["cancelled", "failed"], reason: str, now_s: float, kept: int) -> None:
        assert self.speech is not None
        self.ending.cut(self.speech, status, reason, now_s, sent=self.live.valve.sent_samples, kept=kept)
        self.ending.tell(self.speech)

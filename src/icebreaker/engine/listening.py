"""The user's half of a live conversation: utterances that open, are confirmed, dropped or committed.

An utterance begins when the voice detector says so, ``prefix_padding_ms`` earlier. While the assistant can be heard it
is tentative until it has lasted long enough to be meant (``confirm_ms``), so that a cough, a "mhm" or the assistant's
own echo never stops a reply. Meanwhile the assistant holds its breath: nothing more is sent, and it goes on at the very
next sample if it was nothing. What the ears make of it is ``intake``.
"""

from dataclasses import replace

import numpy as np

from icebreaker.audio.fbank import HISTORY_SAMPLES
from icebreaker.audio.vad import WINDOW_SAMPLES
from icebreaker.dialogue.ears import StreamingEars
from icebreaker.engine.attention import Attention
from icebreaker.engine.conversation import Conversation, Refused
from icebreaker.engine.device import Probabilities
from icebreaker.engine.hearing import EARLY_MS, PAUSE_MS, SAMPLE_RATE, AudioBuffer, Opinion
from icebreaker.engine.messages import Item, SpeechIgnored, SpeechStarted, Waveform
from icebreaker.engine.shared import Shared
from icebreaker.engine.talking import Talking
from icebreaker.engine.utterance import Heard

__all__ = ["SHORTEST_REST", "Listening"]

MAX_UTTERANCE_S = 60.0  # then the turn is over
DROP_TENTATIVE_MS = 320.0  # of silence that make a tentative utterance nothing
IGNORES = 3  # verdicts in a row that dismiss somebody who is still speaking
TAKES = 3  # verdicts in a row that take the turn of somebody who is still speaking
NONSENSE_MS = 2000.0  # of speech beyond what is needed, that interrupt even if it is faint or makes no sense
SETTLED_MS = 300  # of silence that belong to a turn; how much more it took to be sure that it was over is not read
SHORTEST_REST = SAMPLE_RATE // 40  # of a last, incomplete chunk; less is not worth hearing


class Listening:
    """What is said, from its first sample to its end."""

    def __init__(self, live: Shared, talking: Talking) -> None:
        self.live, self.talking = live, talking
        self.attention = Attention(live)
        self.utterance: Heard | None = None
        self.free_from = 0  # audio before this belongs to an earlier utterance

    @property
    def ending(self) -> bool:
        """Whether a turn is over and not all of it is heard yet."""
        return self.utterance is not None and self.utterance.end is not None

    # Sound.

    def append(self, waveform: Waveform) -> None:
        """The user's audio goes on."""
        buffer = self.live.buffer
        buffer.push(waveform)
        if self.live.config.turns == "client":
            self.attention.window_at = buffer.stop
            if self.utterance is None and len(waveform):
                self._open(buffer.stop - len(waveform), confirmed=True)

    @property
    def window(self) -> Waveform | None:
        """The next window [512] for the voice detector, if it is due."""
        return self.attention.window(self.utterance)

    def skips(self, window: Waveform) -> bool:
        """Pass over a window in which nothing is heard while nothing is said by anybody."""
        if self.utterance is not None or self.talking.speech is not None or self.attention.is_loud(window):
            return False
        self.attention.window_at += WINDOW_SAMPLES
        self.attention.forget()
        return True

    def judge_window(self, window: Waveform, probability: float, now_s: float) -> None:
        """The voice detector's probability for the window that was due."""
        attention = self.attention
        attention.hear(window, probability, confirmed=self.utterance is not None and self.utterance.confirmed)
        if self.utterance is None:
            if attention.ear.speaking:
                padding = self.live.config.prefix_padding_ms * SAMPLE_RATE // 1000
                self._open(max(attention.ear.started - padding, self.free_from, self.live.buffer.start))
            else:
                attention.forget()
        if self.utterance is not None and self.utterance.end is None:
            self._consider(self.utterance, now_s)

    def _consider(self, heard: Heard, now_s: float) -> None:
        """What silence and speech so far mean."""
        ear, attention = self.attention.ear, self.attention
        if not heard.confirmed:
            needed_ms = attention.needed_ms(audible=self.talking.audible(now_s))
            if ear.voiced_ms >= needed_ms and (not needed_ms or self._may_be_meant(heard, needed_ms)):
                self._confirm(heard, now_s)
            elif ear.quiet_ms >= DROP_TENTATIVE_MS:
                self._drop(heard)
                return
            elif attention.is_the_user and ear.voiced_ms < needed_ms:
                self.talking.hold(now_s)
            elif self.live.valve.is_held:
                self._go_on()
        if ear.quiet_ms == 0:
            heard.opinion = Opinion()
            self.talking.guessing.drop()
        if not heard.confirmed:
            return
        too_long = attention.window_at - heard.start >= MAX_UTTERANCE_S * SAMPLE_RATE
        if not heard.interrupts and attention.patience.dismisses(heard.opinion, ear.quiet_ms):
            self._drop(heard)
        elif ear.quiet_ms >= attention.patience.silence_needed(heard.opinion) or too_long:
            self._end(heard, attention.window_at)

    def judge_chunk(self, probabilities: Probabilities, now_s: float) -> None:
        """The state head's verdict on what was heard so far."""
        heard = self.utterance
        if heard is None or heard.end is not None or self.live.config.turns != "model" or not heard.chunks:
            return
        _, take, ignore = probabilities
        patience, quiet_ms = self.attention.patience, self.attention.ear.quiet_ms
        heard.ignores = heard.ignores + 1 if ignore > self.live.duplex.ignore_threshold else 0
        heard.takes = heard.takes + 1 if take > patience.take else 0
        paused = quiet_ms >= PAUSE_MS
        heard.opinion = heard.opinion.heard(take, ignore) if paused else Opinion()
        sure = self._is_sure(take) if not paused else quiet_ms >= patience.silence_needed(heard.opinion)
        if heard.ignores and not heard.interrupts and (paused or heard.ignores >= IGNORES):
            self._drop(heard)
        elif (sure or heard.takes >= TAKES) and self._is_somebody(heard):
            if not heard.confirmed:
                self._confirm(heard, now_s)
            self._end(heard, heard.fed)

    def judge_look(self, probabilities: Probabilities) -> None:
        """The state head's verdict on what was heard so far, were no more to come in this chunk; no is no verdict."""
        heard = self.utterance
        if heard is not None and heard.end is None and self._is_sure(probabilities[1]) and self._is_somebody(heard):
            self._end(heard, self.attention.window_at)

    def _is_sure(self, take: float) -> bool:
        """Whether a verdict ends the turn before it is known that the user has paused."""
        return self.attention.ear.quiet_ms >= EARLY_MS and take > self.attention.patience.take

    def _is_somebody(self, heard: Heard) -> bool:
        """Whether the state head may take the turn: its own voice sounds to it like anybody's."""
        return heard.confirmed or (self.attention.is_the_user and self._may_be_meant(heard))

    def _may_be_meant(self, heard: Heard, needed_ms: float = 0.0) -> bool:
        """Whether it may be meant for the assistant; who goes on and on is listened to, faint or without sense."""
        live = self.live
        if self.attention.ear.voiced_ms >= needed_ms + NONSENSE_MS:
            return True
        if self.attention.loudness.is_faint:
            return False
        if not heard.begun or live.slot is None:
            return True
        needed = int(needed_ms * SAMPLE_RATE / 1000)  # which the ears, who go by chunks, have heard a moment later
        return live.device.makes_sense(live.slot, enough=heard.fed - self.attention.ear.started >= needed)

    def settles_at(self, heard: Heard) -> int:
        """Where the sound that a turn is read up to ends, if the user says no more."""
        return heard.settles_at(self.attention.quiet_since + SETTLED_MS * SAMPLE_RATE // 1000)

    # Utterances.

    def _open(self, start: int, *, confirmed: bool = False) -> None:
        self.utterance = Heard(
            Conversation.new_id(), start, start, self.live.memory.new_blob(), confirmed=confirmed
        )  # fmt: skip

    def _confirm(self, heard: Heard, now_s: float) -> None:
        heard.confirmed = heard.told = True
        heard.interrupts = self.live.config.interrupt_response and self.talking.audible(now_s)
        padding = self.live.config.prefix_padding_ms * SAMPLE_RATE // 1000
        at = min(heard.start + padding, self.attention.window_at)
        self.live.emit(SpeechStarted(item_id=heard.item_id, at_ms=1000 * at / SAMPLE_RATE))
        if self.live.config.interrupt_response:
            self.talking.stop("turn_detected", now_s)
        self.talking.go_on()

    def _end(self, heard: Heard, position: int) -> None:
        heard.end = position
        self.attention.loudness.was_the_user()
        heard.respond = self.live.config.create_response and self.live.config.turns != "client"
        if isinstance(self.live.device.dialogue.ears, StreamingEars) and self.settles_at(heard) < position:
            heard.settled = self.settles_at(heard)

    def end_here(self, heard: Heard) -> None:
        """There is no room to listen on."""
        self._end(heard, heard.fed)

    def _drop(self, heard: Heard) -> None:
        """It calls for no answer; whoever goes on speaking begins a new one."""
        if heard.told:
            at_ms = 1000 * self.attention.window_at / SAMPLE_RATE
            self.live.emit(SpeechIgnored(item_id=heard.item_id, at_ms=at_ms))
        self.talking.guessing.drop()
        self.live.memory.blobs.pop(heard.blob, None)
        self.close(heard)
        self._go_on()

    def _go_on(self) -> None:
        """The assistant waited for nothing."""
        if self.live.valve.is_held:
            self.attention.was_nobody()
        self.talking.go_on()

    def close(self, heard: Heard) -> None:
        """It is over: nobody listens to it any more."""
        if heard.begun and self.live.slot is not None:
            self.live.device.stop_listening(self.live.slot)
        self.utterance = None
        self.attention.rest()
        if heard.audio is not None:
            return
        self.free_from = max(self.free_from, heard.fed if heard.end is None else heard.end)
        self.live.buffer.forget(self.free_from)

    def abandon(self) -> None:
        """Stop to listen to whatever is being said."""
        if self.utterance is not None:
            self._drop(self.utterance)

    # Commands.

    def commit(self, item_id: str | None) -> None:
        """The audio so far is a message."""
        heard = self.utterance
        stop = self.live.buffer.stop if self.live.config.turns == "client" else self.attention.window_at
        if heard is None or stop - heard.start < SHORTEST_REST:
            raise Refused("empty_audio", "expected audio to commit, there is none; append some first")
        heard.confirmed = True
        heard.item_id = item_id or heard.item_id
        if heard.item_id in self.live.memory.conversation:
            raise Refused("item_exists", f"expected a new item id, got {item_id!r}, which is in use; leave it out")
        heard.end = stop
        self.talking.guessing.drop()
        self.talking.go_on()

    def clear(self) -> None:
        """Forget the audio so far."""
        if self.utterance is not None:
            self.utterance.told = False
            self.abandon()
        self.free_from = self.attention.window_at = self.live.buffer.stop
        self.live.buffer.forget(self.free_from)

    def add_spoken(self, item: Item, waveform: Waveform) -> None:
        """A message that was recorded: heard as if it had just been said."""
        audio = AudioBuffer()
        audio.push(np.asarray(waveform, np.float32))
        self._open(0, confirmed=True)
        assert self.utterance is not None
        self.utterance = replace(self.utterance, item_id=item.id, item=item, audio=audio, end=audio.stop)

    # For the ears.

    def sound_of(self, heard: Heard, first: int, stop: int) -> Waveform:
        """Some of the sound of an utterance [stop - first]."""
        return (heard.audio or self.live.buffer).take(first, stop)

    def available(self, heard: Heard) -> int:
        """Position up to which the ears may hear it by now."""
        if heard.end is not None:
            return heard.end if heard.settled is None else heard.settled
        is_client = self.live.config.turns == "client"
        return (heard.audio or self.live.buffer).stop if is_client else self.attention.window_at

    def was_fed(self, heard: Heard) -> None:
        """The ears have heard up to ``fed``; older sound is of no use."""
        (heard.audio or self.live.buffer).forget(heard.fed - HISTORY_SAMPLES)

"""The user's half of a live conversation: utterances that open, are confirmed, dropped or committed.

An utterance begins when the voice detector says so, ``prefix_padding_ms`` earlier. While the assistant can be heard it
is tentative: listened to aside and mentioned to nobody until it has lasted long enough to be meant (``confirm_ms``), so
that a cough, a "mhm" or the assistant's own echo never stops a reply.
"""

from collections import deque
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, HISTORY_SAMPLES
from icebreaker.audio.vad import WINDOW_SAMPLES
from icebreaker.dialogue.state import Utterance
from icebreaker.engine.conversation import Conversation, Refused
from icebreaker.engine.device import Probabilities, blob_keys
from icebreaker.engine.hearing import SAMPLE_RATE, AudioBuffer, Ear, Patience, patience
from icebreaker.engine.memory import Remembered
from icebreaker.engine.messages import (
    Committed,
    Item,
    Respond,
    SpeechIgnored,
    SpeechStarted,
    SpeechStopped,
    Transcribed,
    Waveform,
)
from icebreaker.engine.shared import Shared
from icebreaker.engine.talking import Talking
from icebreaker.engine.utterance import Heard

__all__ = ["Listening"]

MAX_UTTERANCE_S = 60.0  # then the turn is over
DROP_TENTATIVE_MS = 320.0  # of silence that make a tentative utterance nothing
UNCERTAIN_MS = 900.0  # of speech that interrupt while it is not known yet where the echo lies
IGNORES = 3  # verdicts in a row that dismiss somebody who is still speaking
TAKES = 3  # verdicts in a row that take the turn of somebody who is still speaking
PAUSE_MS = 64.0  # of silence after which one verdict is enough
SILENT_ENERGY = WINDOW_SAMPLES * 2e-4**2  # of a window, below which nobody asks the voice detector
SHORTEST_REST = SAMPLE_RATE // 40  # of a last, incomplete chunk; less is not worth hearing
MIN_ROOM = 64  # LLM positions to be left for a reply when an utterance opens, besides the speech


class Listening:
    """Sound in, user messages out."""

    def __init__(self, live: Shared, talking: Talking) -> None:
        self.live, self.talking = live, talking
        self.buffer, self.echo = live.buffer, live.echo
        self.ear = Ear()
        self.utterance: Heard | None = None
        self.window_at = 0  # position of the next window for the voice detector
        self.free_from = 0  # audio before this belongs to an earlier utterance
        self.untold: deque[tuple[str, Tensor, float]] = deque()  # items to be transcribed

    @property
    def ending(self) -> bool:
        """Whether a turn is over and not all of it is heard yet."""
        return self.utterance is not None and self.utterance.end is not None

    @property
    def _confirmed(self) -> bool:
        return self.utterance is not None and self.utterance.confirmed

    @property
    def patience(self) -> Patience:
        """How long to wait."""
        return patience(self.live.config, self.live.settings.duplex.take_threshold)

    # Sound.

    def append(self, waveform: Waveform) -> None:
        """The user's audio goes on."""
        self.buffer.push(waveform)
        if self.live.config.turns == "client":
            self.window_at = self.buffer.stop
            if self.utterance is None and len(waveform):
                self._open(self.buffer.stop - len(waveform), confirmed=True)

    @property
    def window(self) -> Waveform | None:
        """The next window [512] for the voice detector, if it is due."""
        if self.live.config.turns == "client" or self.ending or self.window_at + WINDOW_SAMPLES > self.buffer.stop:
            return None
        if self.utterance is not None and self.window_at >= self.utterance.fed + CHUNK_SAMPLES + WINDOW_SAMPLES:
            return None  # the verdict on what was heard comes first
        return self.buffer.take(self.window_at, self.window_at + WINDOW_SAMPLES)

    def is_loud(self, window: Waveform) -> bool:
        """Whether there is anything in it to ask about."""
        return bool(self.ear.run) or self.ear.speaking or float(np.dot(window, window)) >= SILENT_ENERGY

    def skips(self, window: Waveform) -> bool:
        """Pass over a window in which nothing is heard while nothing is said by anybody."""
        if self.utterance is not None or self.talking.speech is not None or self.is_loud(window):
            return False
        self.window_at += WINDOW_SAMPLES
        self._forget()
        return True

    def _forget(self) -> None:
        self.buffer.forget(self.window_at - self.live.config.prefix_padding_ms * SAMPLE_RATE // 1000 - SAMPLE_RATE)

    def judge_window(self, window: Waveform, probability: float, now_s: float) -> None:
        """The voice detector's probability for the window that was due."""
        position = self.window_at
        self.window_at += WINDOW_SAMPLES
        if self.echo.may_echo(position):
            was_certain = self.echo.certain
            probability = 0.0 if self.echo.explains(window, position) else probability
            if self.echo.certain and not was_certain and not self._confirmed:
                self.ear = replace(self.ear, voiced_ms=0.0)  # it counted what may have been echo
        config = self.live.config
        self.ear = self.ear.heard(probability, config.threshold, position)
        if self.utterance is None:
            padding = config.prefix_padding_ms * SAMPLE_RATE // 1000
            if self.ear.speaking:
                start = max(self.ear.started - padding, self.free_from, self.buffer.start)
                self._open(start, confirmed=False)
            else:
                self._forget()
        if self.utterance is not None and self.utterance.end is None:
            self._consider(self.utterance, now_s)

    def _consider(self, heard: Heard, now_s: float) -> None:
        """What silence and speech so far mean."""
        now, patience = self.ear, self.patience
        if not heard.confirmed:
            if now.voiced_ms >= self._needed_ms(now.voiced_ms, now_s):
                self._confirm(heard, now_s)
            elif now.quiet_ms >= DROP_TENTATIVE_MS:
                self._drop(heard)
                return
        too_long = self.window_at - heard.start >= MAX_UTTERANCE_S * SAMPLE_RATE
        if heard.confirmed and (now.quiet_ms >= patience.silence_ms or too_long):
            self._end(heard, self.window_at)

    def _needed_ms(self, voiced_ms: float, now_s: float) -> float:
        """How much speech is meant, where ``voiced_ms`` were heard; more while it may be the assistant's own."""
        is_audible, rings = self.talking.audible(now_s), self.echo.may_ring(self.window_at)
        if rings and not self.echo.certain and not self.echo.excludes(voiced_ms):
            return max(self.patience.confirm_ms, UNCERTAIN_MS)
        return self.patience.confirm_ms if is_audible or (rings and self.echo.certain) else 0.0

    def judge_chunk(self, probabilities: Probabilities, now_s: float) -> None:
        """The state head's verdict on what was heard so far."""
        heard = self.utterance
        if heard is None or heard.end is not None or self.live.config.turns != "model" or not heard.chunks:
            return
        _, take, ignore = probabilities
        heard.ignores = heard.ignores + 1 if ignore > self.live.settings.duplex.ignore_threshold else 0
        heard.takes = heard.takes + 1 if take > self.patience.take else 0
        paused = self.ear.quiet_ms >= PAUSE_MS
        if heard.ignores and (paused or heard.ignores >= IGNORES):
            self._drop(heard)
        elif heard.takes and (paused or heard.takes >= TAKES):
            if not heard.confirmed:
                self._confirm(heard, now_s)
            self._end(heard, heard.fed)

    # Utterances.

    def _open(self, start: int, *, confirmed: bool) -> None:
        self.utterance = Heard(
            Conversation.new_id(), start, start, self.live.memory.new_blob(), confirmed=confirmed
        )  # fmt: skip

    def _confirm(self, heard: Heard, now_s: float) -> None:
        heard.confirmed = heard.told = True
        padded = min(heard.start + self.live.config.prefix_padding_ms * SAMPLE_RATE // 1000, self.window_at)
        self.live.emit(SpeechStarted(item_id=heard.item_id, at_ms=_ms(padded)))
        if self.live.config.interrupt_response:
            self.talking.stop("turn_detected", now_s)

    def _end(self, heard: Heard, position: int) -> None:
        heard.end = position
        heard.respond = self.live.config.create_response and self.live.config.turns != "client"

    def _drop(self, heard: Heard) -> None:
        """It calls for no answer; whoever goes on speaking begins a new one."""
        if heard.told:
            self.live.emit(SpeechIgnored(item_id=heard.item_id, at_ms=_ms(self.window_at)))
        self.live.memory.blobs.pop(heard.blob, None)
        self._close(heard)

    def _close(self, heard: Heard) -> None:
        if heard.begun and self.live.slot is not None:
            self.live.device.stop_listening(self.live.slot)
        self.utterance, self.ear = None, Ear()
        if heard.audio is not None:
            return
        self.free_from = max(self.free_from, heard.fed if heard.end is None else heard.end)
        self.buffer.forget(self.free_from)

    def abandon(self) -> None:
        """Stop to listen to whatever is being said."""
        if self.utterance is not None:
            self._drop(self.utterance)

    # Commands.

    def commit(self, item_id: str | None) -> None:
        """The audio so far is a message."""
        heard = self.utterance
        stop = self.buffer.stop if self.live.config.turns == "client" else self.window_at
        if heard is None or stop - heard.start < SHORTEST_REST:
            raise Refused("empty_audio", "expected audio to commit, there is none; append some first")
        heard.confirmed = True
        heard.item_id = item_id or heard.item_id
        if heard.item_id in self.live.memory.conversation:
            raise Refused("item_exists", f"expected a new item id, got {item_id!r}, which is in use; leave it out")
        heard.end = stop

    def clear(self) -> None:
        """Forget the audio so far."""
        if self.utterance is not None:
            self.utterance.told = False
            self.abandon()
        self.free_from = self.window_at = self.buffer.stop
        self.buffer.forget(self.free_from)

    def add_spoken(self, item: Item, waveform: Waveform) -> None:
        """A message that was recorded: heard as if it had just been said."""
        audio = AudioBuffer()
        audio.push(np.asarray(waveform, np.float32))
        self._open(0, confirmed=True)
        assert self.utterance is not None
        self.utterance = replace(self.utterance, item_id=item.id, item=item, audio=audio, end=audio.stop)

    # The slot.

    def prepare(self, now_s: float) -> None:
        """Begin to listen, or go on in the conversation itself when nobody speaks beside the user any more."""
        live, heard = self.live, self.utterance
        if heard is None or live.slot is None:
            return
        if not heard.begun:
            before = (heard.audio or self.buffer).take(heard.start - HISTORY_SAMPLES, heard.start)
            keys = self._opening()
            heard.aside = self.talking.generating or not heard.confirmed
            if heard.aside:
                live.device.listen_aside(live.slot, keys, live.memory.blobs, torch.from_numpy(before))
            else:
                inputs = live.device.read(live.slot, keys, live.memory.blobs, fresh=False)
                live.device.listen(live.slot, inputs, torch.from_numpy(before))
            heard.begun = True
        elif heard.aside and heard.confirmed and not self.talking.generating:
            self.reread(take_over=True)

    def step_aside(self) -> None:
        """A reply is going to begin while the user speaks: listen on beside it."""
        heard = self.utterance
        if heard is not None and heard.begun and not heard.aside and self.live.slot is not None:
            self.live.device.step_aside(self.live.slot)
            heard.aside = True

    def reread(self, *, take_over: bool = False) -> None:
        """What stands before the utterance has changed."""
        live, heard = self.live, self.utterance
        if heard is None or not heard.begun or live.slot is None or (heard.aside and not take_over):
            return
        live.memory.blobs[heard.blob] = vectors = live.device.heard(live.slot, so_far=True)
        heard.vectors, heard.aside = len(vectors), False
        keys = [*self._opening(), *blob_keys(heard.blob, 0, heard.vectors)]
        live.device.take_over(live.slot, live.device.read(live.slot, keys, live.memory.blobs, fresh=False))

    def _opening(self) -> list[int]:
        """Keys of all that stands before the utterance."""
        live = self.live
        room = min(MIN_ROOM + round(MAX_UTTERANCE_S * 12.5) // 2, live.memory.capacity // 2)
        return self.talking.reading(live.config, room=room, opening=True)

    def next_chunk(self) -> Tensor | None:
        """160 ms [2560] for the ears, if they are due; the end of an utterance is filled up with silence."""
        heard = self.utterance
        if heard is None or not heard.begun:
            return None
        buffer = heard.audio or self.buffer
        available = buffer.stop if self.live.config.turns == "client" else self.window_at
        end = available if heard.end is None else heard.end
        if end - heard.fed < (CHUNK_SAMPLES if heard.end is None else SHORTEST_REST):
            return None
        chunk = np.zeros(CHUNK_SAMPLES, np.float32)
        taken = buffer.take(heard.fed, min(heard.fed + CHUNK_SAMPLES, end))
        chunk[: len(taken)] = taken
        heard.fed += CHUNK_SAMPLES
        heard.chunks += 1
        buffer.forget(heard.fed - HISTORY_SAMPLES)
        return torch.from_numpy(chunk)

    def chunk_was_heard(self) -> None:
        """The ears have made vectors of it; they are what the slot reads next."""
        heard, live = self.utterance, self.live
        if heard is None or live.slot is None:
            return
        if not heard.aside:
            total = live.device.vectors_heard(live.slot)
            live.slot.keys += blob_keys(heard.blob, heard.vectors, total)
            heard.vectors = total
        length = live.device.branch_length(live.slot) if heard.aside else len(live.slot.keys)
        if heard.end is None and length + MIN_ROOM >= live.memory.capacity:  # no room to listen on
            self._end(heard, heard.fed)

    def finish(self, now_s: float) -> None:
        """When all of a turn is heard it becomes a message, and may be answered."""
        heard, live = self.utterance, self.live
        if heard is None or heard.end is None or not heard.begun or live.slot is None:
            return
        if heard.end - heard.fed >= SHORTEST_REST:
            return
        vectors = live.device.heard(live.slot)
        live.memory.blobs[heard.blob] = vectors
        quiet_s = self.ear.quiet_ms / 1000
        ms = _ms(heard.end - heard.start)
        self._close(heard)
        if heard.told:
            live.emit(SpeechStopped(item_id=heard.item_id, at_ms=_ms(heard.end)))
        if heard.item is None:
            live.emit(Committed(item_id=heard.item_id, previous_item_id=live.memory.conversation.last_id))
        item = replace(heard.item or Item(id=heard.item_id, role="user"), audio_ms=ms)
        before = live.memory.add(Remembered(item, blob=heard.blob))
        live.added(item, before)
        if live.config.transcribe and live.settings.transcribe:
            self.untold.append((item.id, vectors, ms / 1000))
        if heard.respond:
            self.talking.start_or_wait(Respond(), now_s, speech_end_s=now_s - quiet_s)

    def transcribe(self) -> None:
        """Write down what was said."""
        item_id, vectors, seconds = self.untold.popleft()
        live = self.live
        if item_id not in live.memory.conversation:
            return
        text = live.device.dialogue.transcribe(Utterance(0, (vectors,)))
        live.memory.conversation.change(item_id, text=text)
        live.changed = True
        live.emit(Transcribed(item_id=item_id, text=text, seconds=seconds))


def _ms(samples: int) -> float:
    return 1000 * samples / SAMPLE_RATE

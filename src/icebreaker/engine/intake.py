"""What the ears make of an utterance: from sound to vectors in the slot's context, and at its end to a message.

Decides nothing about where it begins or ends; that is ``listening``.
"""

from collections import deque
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, HISTORY_SAMPLES
from icebreaker.dialogue.ears import StreamingEars
from icebreaker.dialogue.state import Utterance
from icebreaker.engine.hearing import EARLY_MS, SAMPLE_RATE
from icebreaker.engine.keys import blob_keys
from icebreaker.engine.listening import MAX_UTTERANCE_S, SHORTEST_REST, Listening
from icebreaker.engine.memory import Remembered
from icebreaker.engine.messages import Committed, Item, Respond, SpeechStopped, Transcribed, Waveform
from icebreaker.engine.shared import Shared
from icebreaker.engine.talking import Talking
from icebreaker.engine.utterance import Heard

__all__ = ["Intake"]

LOOKS_MS = (EARLY_MS, 480.0)  # of silence, while the state head is asked before a chunk is full,
LOOK_EVERY_MS = 64.0  # this often, at first twice as often
SILENCE_MS = 64.0  # of sound that go on backwards where an utterance that ends in silence leaves a chunk unfilled
MIN_ROOM = 64  # LLM positions to be left for a reply when an utterance opens, besides the speech


class Intake:
    """Leads an utterance through the slot."""

    def __init__(self, live: Shared, listening: Listening, talking: Talking) -> None:
        self.live, self.listening, self.talking = live, listening, talking
        self.untold: deque[tuple[str, Tensor | tuple[int, ...], float]] = deque()  # items to be transcribed

    def prepare(self) -> None:
        """Begin to listen, or go on in the conversation itself when nobody speaks beside the user any more."""
        live, heard = self.live, self.listening.utterance
        if heard is None or live.slot is None:
            return
        if not heard.begun:
            before = torch.from_numpy(self.listening.sound_of(heard, heard.start - HISTORY_SAMPLES, heard.start))
            keys = self._opening()
            heard.aside = self.talking.making or not heard.confirmed
            if heard.aside:
                live.device.listen_aside(live.slot, keys, live.memory.blobs, before)
            else:
                inputs = live.device.read(live.slot, keys, live.memory.blobs, fresh=False)
                live.device.listen(live.slot, inputs, before)
            heard.begun = True
        elif heard.aside and heard.confirmed and not self.talking.making and self.talking.guessing.guess is None:
            self.reread(take_over=True)

    def step_aside(self) -> None:
        """A reply is going to begin while the user speaks: listen on beside it."""
        heard = self.listening.utterance
        if heard is not None and heard.begun and not heard.aside and self.live.slot is not None:
            self.live.device.step_aside(self.live.slot)
            heard.aside = True

    def reread(self, *, take_over: bool = False) -> None:
        """What stands before the utterance has changed."""
        live, heard = self.live, self.listening.utterance
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
        """160 ms [2560] for the ears, if they are due."""
        heard = self.listening.utterance
        if heard is None or not heard.begun:
            return None
        end = self.listening.available(heard)
        if end - heard.fed < (CHUNK_SAMPLES if heard.end is None else SHORTEST_REST):
            return None
        chunk = self._filled(heard, self.listening.sound_of(heard, heard.fed, min(heard.fed + CHUNK_SAMPLES, end)))
        self._feed(heard)
        return chunk

    def _feed(self, heard: Heard) -> None:
        heard.fed += CHUNK_SAMPLES
        heard.chunks += 1
        self.listening.was_fed(heard)

    def _filled(self, heard: Heard, sound: Waveform) -> Tensor:
        """A chunk [2560] that begins with ``sound``; its silence, if it ends in one, goes on backwards."""
        chunk = np.zeros(CHUNK_SAMPLES, np.float32)
        chunk[: len(sound)] = sound
        if heard.audio is None and self.listening.attention.ear.quiet_ms >= EARLY_MS:
            silence = sound[-round(SILENCE_MS * SAMPLE_RATE / 1000) :][::-1]
            chunk[len(sound) :] = np.resize(silence, CHUNK_SAMPLES - len(sound))
        return torch.from_numpy(chunk)

    def next_look(self) -> Tensor | None:
        """The chunk that is under way [2560], went the silence on, if the user has just fallen silent.

        The state head need not wait for its end, 80 ms on average: what it makes of this is forgotten at once, unless
        it takes the turn (``look_came_true``). Only where the slot listens in the conversation itself.
        """
        heard, live, attention = self.listening.utterance, self.live, self.listening.attention
        if heard is None or heard.end is not None or not heard.begun or heard.aside or not heard.confirmed:
            return None
        dialogue = live.device.dialogue
        judges = dialogue.turn_head is not None and isinstance(dialogue.ears, StreamingEars)
        if live.config.turns != "model" or not judges or not LOOKS_MS[0] <= attention.ear.quiet_ms < LOOKS_MS[1]:
            return None
        rest = self.listening.available(heard) - heard.fed
        if attention.window_at < heard.looks_from or not SHORTEST_REST <= rest < CHUNK_SAMPLES:
            return None
        if live.slot is None or live.device.row(live.slot).pending is not None:
            return None  # much is still to be read: for nothing, if it is forgotten again
        wait_ms = min(attention.ear.quiet_ms, LOOK_EVERY_MS)  # after 32 ms at 64, then at 128, 192 ...
        heard.looks_from = attention.window_at + round(wait_ms * SAMPLE_RATE / 1000)
        return self._filled(heard, self.listening.sound_of(heard, heard.fed, heard.fed + rest))

    def look_came_true(self) -> None:
        """The turn ended where it was looked at: that was its last chunk, and it has been heard."""
        heard = self.listening.utterance
        assert heard is not None
        self._feed(heard)
        self.chunk_was_heard()

    def chunk_was_heard(self) -> None:
        """The ears have made vectors of it; they are what the slot reads next."""
        heard, live = self.listening.utterance, self.live
        if heard is None or live.slot is None:
            return
        total = live.device.vectors_heard(live.slot)
        heard.counts.append(total)
        if not heard.aside:
            live.slot.keys += blob_keys(heard.blob, heard.vectors, total)
            heard.vectors = total
        length = live.device.branch_length(live.slot) if heard.aside else len(live.slot.keys)
        if heard.end is None and length + MIN_ROOM >= live.memory.capacity:
            self.listening.end_here(heard)

    def finish(self, now_s: float) -> None:
        """When all of a turn is heard it becomes a message, and may be answered; before, the answer may be guessed."""
        heard, live = self.listening.utterance, self.live
        if heard is None or not heard.begun or live.slot is None:
            return
        if heard.end is None:
            self._guess(heard, now_s)
            return
        if self.listening.available(heard) - heard.fed >= SHORTEST_REST:
            return
        vectors = live.device.heard(live.slot)
        if heard.settled is not None:
            vectors = vectors[: heard.vectors_at(heard.settled)]
        said = self._understood(heard, len(vectors))
        quiet_s = self.listening.attention.ear.quiet_ms / 1000
        self.listening.close(heard)
        self._tell(heard, vectors, said)
        if not heard.respond:
            self.talking.guessing.drop()
        else:
            self.talking.start_or_wait(Respond(), now_s, speech_end_s=now_s - quiet_s)

    def _understood(self, heard: Heard, count: int) -> tuple[int, ...]:
        """Tokens of the utterance's first ``count`` vectors, where the model has a second pass and it finds some."""
        if heard.understood is None or heard.understood[0] != count:
            assert self.live.slot is not None
            heard.understood = count, self.live.device.understood(self.live.slot, count)
        return heard.understood[1]

    def _tell(self, heard: Heard, vectors: Tensor, said: tuple[int, ...]) -> None:
        """The utterance is a message: the tokens ``said`` if there are any, or the ``vectors`` [n, D] of the ears."""
        live = self.live
        assert heard.end is not None
        ms = _ms(heard.end - heard.start)
        if heard.told:
            live.emit(SpeechStopped(item_id=heard.item_id, at_ms=_ms(heard.end)))
        if heard.item is None:
            live.emit(Committed(item_id=heard.item_id, previous_item_id=live.memory.conversation.last_id))
        item = replace(heard.item or Item(id=heard.item_id, role="user"), audio_ms=ms)
        if said:
            live.memory.blobs.pop(heard.blob, None)
        else:
            live.memory.blobs[heard.blob] = vectors
        live.added(item, live.memory.add(_remembered(item, heard.blob, said)))
        if live.config.transcribe and live.settings.transcribe:
            self.untold.append((item.id, said or vectors, ms / 1000))

    def _guess(self, heard: Heard, now_s: float) -> None:
        """The user has fallen silent: begin the reply, in case that was all."""
        settled = self.listening.settles_at(heard)
        if heard.guessed_at == settled or heard.fed < settled or not self._leans(heard, now_s):
            return
        live = self.live
        assert live.slot is not None
        vectors, count = live.device.heard(live.slot, so_far=True), heard.vectors_at(settled)
        said = _remembered(Item(id=heard.item_id, role="user"), heard.blob, self._understood(heard, count))
        heard.guessed_at = settled
        self.talking.guess(said, vectors, count, self.step_aside, now_s)

    def _leans(self, heard: Heard, now_s: float) -> bool:
        """Whether it is likely enough that the user is done, and nothing else is going on."""
        config, habits, attention = self.live.config, self.live.habits, self.listening.attention
        if not self.talking.guessing.possible or config.turns == "client" or not config.create_response:
            return False
        busy = heard.aside or self.talking.audible(now_s) or self.talking.waiting is not None
        if busy or not heard.confirmed or not attention.ear.quiet_ms:
            return False
        assert habits.lean is not None
        long = attention.ear.quiet_ms >= attention.patience.silence_ms / 2
        return config.turns == "silence" or heard.opinion.take >= habits.lean or long

    def transcribe(self) -> None:
        """Write down what was said."""
        item_id, said, seconds = self.untold.popleft()
        live = self.live
        if item_id not in live.memory.conversation:
            return
        if isinstance(said, tuple):
            text = str(live.device.llm.tokenizer.decode(said)).strip()
        else:
            text = live.device.dialogue.transcribe(Utterance(0, (said,)))
        live.memory.conversation.change(item_id, text=text)
        live.changed = True
        live.emit(Transcribed(item_id=item_id, text=text, seconds=seconds))


def _remembered(item: Item, blob: int, said: tuple[int, ...]) -> Remembered:
    """A spoken message: the tokens ``said``, or if there are none, the vectors of ``blob``."""
    return Remembered(item, tokens=said, heard=len(said)) if said else Remembered(item, blob=blob)


def _ms(samples: int) -> float:
    return 1000 * samples / SAMPLE_RATE

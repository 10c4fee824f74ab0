"""Replies that are begun before the turn is decided, while it is likely: kept if it is taken so, else forgotten.

A guess is made on the conversation as it would be if the user had ended. What it would tell is not told and what it
draws is drawn by the reply's own generators, so nobody can see whether a reply was guessed, but by the clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from icebreaker.dialogue.ears import StreamingEars
from icebreaker.dialogue.state import Manner
from icebreaker.dialogue.state import Reply as DeviceReply
from icebreaker.engine.brief import Brief
from icebreaker.engine.conversation import Refused
from icebreaker.engine.memory import Remembered
from icebreaker.engine.reply import Speech
from icebreaker.engine.shared import Shared

__all__ = ["Guess", "Guessing", "generators"]

SEED_STEP = 1_000_003  # between the seeds of a session's replies
VOICE_SEED = 500_009  # from the seed of a reply's words to that of its codes


@dataclass
class Guess:
    """A reply that may become one.

    Attributes:
        keys: what it follows.
        manner: how it is drawn.
        seeds: of its words and its codes.
        sound: made so far.
    """

    keys: list[int]
    manner: Manner
    seeds: tuple[int, int]
    sound: list[Tensor] = field(default_factory=list)


class Guessing:
    """At most one guess, in the slot of its conversation."""

    def __init__(self, live: Shared, brief: Brief) -> None:
        self.live, self.brief = live, brief
        self.guess: Guess | None = None

    @property
    def possible(self) -> bool:
        """Whether this model answers the same, however early it begins: ears that hear as sound comes, and segments
        that do not depend on what was sent."""
        dialogue = self.live.device.dialogue
        by_clock = self.live.settings.segmenter.rule == "official_server"
        return self.live.habits.lean is not None and isinstance(dialogue.ears, StreamingEars) and not by_clock

    def suppose(self, speech: Speech, said: Remembered, vectors: Tensor, count: int) -> list[int] | None:
        """Keys of what ``speech`` follows, were ``said``, made of the first ``count`` of ``vectors`` [n, D], the end.

        None: it has no room, unless something is forgotten.
        """
        memory, (wanted, room) = self.live.memory, self.brief.tokens(speech.config)
        if said.blob:
            memory.blobs[said.blob] = vectors[:count]
        memory.conversation.add(said)
        try:
            keys = self.brief.keys(speech, room, forget=False)
        except Refused:
            return None
        finally:
            memory.conversation.delete(said.item.id)
            if said.blob:
                memory.blobs[said.blob] = vectors
        speech.max_tokens = min(wanted, memory.capacity - len(keys))
        return keys

    def begin(self, keys: Sequence[int], speech: Speech, seeds: tuple[int, int]) -> None:
        """Have the slot begin; its context is the reply's from now on."""
        live = self.live
        assert live.slot is not None
        inputs = live.device.read(live.slot, keys, live.memory.blobs, fresh=True)
        assert inputs is not None
        manner = self.brief.manner(speech)
        live.device.answer(live.slot, inputs, manner, *generators(seeds, inputs.device))
        self.guess = Guess(list(keys), manner, seeds)
        live.counts["guesses"] += 1

    def take(self, keys: Sequence[int], manner: Manner, seeds: tuple[int, int]) -> Guess | None:
        """The guess, if it is the very reply that is wanted now; another one is forgotten."""
        guess = self.guess
        if guess is None or (guess.keys, guess.manner, guess.seeds) != (list(keys), manner, seeds):
            self.drop()
            return None
        self.guess = None
        self.live.counts["good_guesses"] += 1
        return guess

    def drop(self) -> None:
        """It was wrong: the context is what was read before it, as far as that is still wanted."""
        if self.guess is not None and self.live.slot is not None:
            self.live.device.stop_speaking(self.live.slot)
        self.guess = None

    @property
    def awaits_sound(self) -> bool:
        """Whether there is a guess whose first sound has not been made; more is not made in advance."""
        return self.guess is not None and not self.guess.sound and not self._made.done

    @property
    def needs_text(self) -> bool:
        """Whether it has to have more text before there can be a first sound."""
        made = self._made if self.awaits_sound and self.guess is not None and self.guess.manner.spoken else None
        return made is not None and not (made.text_done or made.speaking or made.queue)

    @property
    def _made(self) -> DeviceReply:
        assert self.live.slot is not None
        made = self.live.device.row(self.live.slot).reply
        assert made is not None
        return made


def generators(seeds: tuple[int, int], device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """Of a reply's words and of its codes: how far one is ahead of the other makes no difference to either."""
    words, codes = (torch.Generator(device).manual_seed(seed) for seed in seeds)
    return words, codes

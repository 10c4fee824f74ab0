"""The one place that runs models: a batch of slots, and what can be done to one of them. Knows no turns and no clock.

A slot's cache is only a memo. What it should hold is a function of the conversation's items; ``read`` compares that,
key by key (see ``keys``), with what it does hold, forgets what differs and feeds the rest. So an item that is
truncated, deleted or trimmed, other instructions and a reply outside the conversation are all the same case.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, HISTORY_SAMPLES, FbankState
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.parts import Parts
from icebreaker.dialogue.state import DialogueState, Manner, Reply, Row, Utterance, truncate, with_row
from icebreaker.duplex import DuplexConfig, Turn
from icebreaker.engine.keys import Vectors, common
from icebreaker.models.codec_lm_ticks import CodecLMTicks
from icebreaker.models.kv_cache import KVCache
from icebreaker.models.llm_ticks import LLMTicks
from icebreaker.streaming import put_row

__all__ = ["Device", "Probabilities", "Slot"]

logger = logging.getLogger(__name__)

Probabilities = tuple[float, float, float]
NEVER = DuplexConfig(take_threshold=1.0, ignore_threshold=1.0)  # the engine decides, not the dialogue
LONGEST_FEED = 256  # LLM positions of a prefill in one tick: others wait for it


@dataclass
class Slot:
    """A place in the batch.

    Attributes:
        index: its row.
        keys: of the cache's positions, those that are still to be fed at the end; of a reply only what it follows.
    """

    index: int
    keys: list[int] = field(default_factory=list)


class Device:
    """A dialogue's models and the state of all slots."""

    def __init__(self, dialogue: Dialogue, slots: int, capacity: int) -> None:
        self.duplex = dialogue.settings.duplex  # what the model's state head is to be believed from
        settings = replace(dialogue.settings, duplex=NEVER, preroll_chunks=0)
        self.dialogue = Dialogue(replace(dialogue.model, settings=settings))
        self.llm = dialogue.model.llm
        self.capacity = capacity
        self.prompts: Tensor | None = None
        if isinstance(dialogue.model, Parts):
            self.prompts = dialogue.model.prompts.prompt_embeddings.weight
        self.vectors = Vectors(self.dialogue.turns.embed, self.prompts)
        self.state: DialogueState = self.dialogue.initial_state([0] * slots, capacity, before_ids=())
        if self.llm.embedding.weight.is_cuda:  # launching the kernels of a tick one by one would take longer than it
            self.llm.ticks = LLMTicks(self.llm, self.state.context)
            if isinstance(dialogue.model, Parts):
                dialogue.model.codec_lm.ticks = CodecLMTicks(dialogue.model.codec_lm)

    # One slot.

    def reset(self, slot: int) -> None:
        """Empty a slot."""
        self.state = truncate(self.state, slot, 0)
        self.state = self._with(slot, Row())

    def save(self, slot: Slot) -> KVCache:
        """A copy of a slot's context, which may then be given to somebody else."""
        return self.state.context.row(slot.index)

    def restore(self, slot: Slot, saved: KVCache) -> None:
        """Put a saved context into a slot."""
        self.state = self.state._replace(context=self.state.context.with_row(slot.index, saved))

    def row(self, slot: Slot) -> Row:
        """What the dialogue knows of a slot."""
        return self.state.rows[slot.index]

    @torch.inference_mode()
    def read(self, slot: Slot, keys: Sequence[int], blobs: Mapping[int, Tensor], *, fresh: bool) -> Tensor | None:
        """Make the slot's context a prefix of ``keys``; returns the inputs [L, D] that are still to be fed.

        ``fresh``: at least one has to be, for its hidden state is wanted.
        """
        same = min(common(self._known(slot), keys), len(keys) - int(fresh))
        self.state = truncate(self.state, slot.index, same)
        slot.keys = list(keys)
        return self.embed(keys[same:], blobs) if same < len(keys) else None

    @torch.inference_mode()
    def listen(self, slot: Slot, inputs: Tensor | None, before: Tensor) -> None:
        """Begin an utterance after ``inputs`` [L, D]; ``before`` [240] is the audio ahead of it."""
        self.state = with_row(self.state, slot.index, turn=Turn.HEARING, reply=None, pending=inputs)
        self._open(slot, None, before)

    @torch.inference_mode()
    def listen_aside(
        self, slot: Slot, keys: Sequence[int], blobs: Mapping[int, Tensor], before: Tensor
    ) -> None:  # fmt: skip
        """Begin an utterance after ``keys`` without disturbing the slot's own context and reply."""
        same = common(self._known(slot), keys)
        branch = self.state.branch or self.llm.new_cache(len(self.state.rows), self.capacity)
        shared = self.state.context.slots(slot.index, slot.index + 1)
        shared = shared._replace(length=shared.length.clamp(max=same)).row(0)
        self.state = self.state._replace(branch=branch.with_row(slot.index, shared))
        self.state = with_row(self.state, slot.index, turn=Turn.OVERLAP)
        self._open(slot, self.embed(keys[same:], blobs) if same < len(keys) else None, before)

    @torch.inference_mode()
    def step_aside(self, slot: Slot) -> None:
        """What is listened to in the slot's own context goes on beside it: a reply is going to begin there."""
        row = self.row(slot)
        assert row.utterance is not None
        waiting = [piece for piece in (row.pending, row.utterance.pending) if piece is not None]
        branch = self.state.branch or self.llm.new_cache(len(self.state.rows), self.capacity)
        self.state = self.state._replace(branch=branch.with_row(slot.index, self.state.context.row(slot.index)))
        utterance = replace(row.utterance, pending=torch.cat(waiting) if waiting else None)
        self.state = with_row(self.state, slot.index, turn=Turn.OVERLAP, pending=None, utterance=utterance)

    @torch.inference_mode()
    def take_over(self, slot: Slot, inputs: Tensor | None) -> None:
        """What was listened to aside goes on in the slot's own context, ``inputs`` being all that it lacks."""
        utterance = self.row(slot).utterance
        assert utterance is not None
        utterance = replace(utterance, pending=None)
        self.state = with_row(
            self.state, slot.index, turn=Turn.HEARING, reply=None, pending=inputs, utterance=utterance
        )  # fmt: skip

    @torch.inference_mode()
    def heard(self, slot: Slot, *, so_far: bool = False) -> Tensor:
        """[n, D] all that the ears made of the utterance; ``so_far``: while it goes on."""
        utterance = self.row(slot).utterance
        assert utterance is not None
        rest = () if so_far else self.dialogue.ears.rest(utterance)
        pieces = [*utterance.embeddings, *rest]
        return torch.cat(pieces) if pieces else self.llm.embedding.weight.new_zeros(0, self.llm.width)

    @torch.inference_mode()
    def understood(self, slot: Slot, count: int) -> tuple[int, ...]:
        """Tokens of the first ``count`` vectors of the utterance by a second pass; none where the model has no such."""
        utterance, second = self.row(slot).utterance, self.dialogue.second_pass
        if second is None or utterance is None or not utterance.vectors:
            return ()
        return tuple(second.said(utterance, count))

    @torch.inference_mode()
    def makes_sense(self, slot: Slot, *, enough: bool) -> bool:
        """Whether what was heard so far is at all like what users say, as far as the model can tell.

        A model that can tell says no before it has heard ``enough``: a syllable is like what everybody says.
        """
        utterance, second = self.row(slot).utterance, self.dialogue.second_pass
        least = self.dialogue.settings.least_sense
        if second is None or utterance is None or least is None:
            return True
        if not enough:
            return False
        utterance = second.follow(utterance)
        self.state = with_row(self.state, slot.index, utterance=utterance)
        return second.search.sense(utterance.beams[-1]) >= least

    def vectors_heard(self, slot: Slot) -> int:
        """How many vectors the ears have made of the utterance so far."""
        utterance = self.row(slot).utterance
        return 0 if utterance is None else sum(map(len, utterance.embeddings))

    def branch_length(self, slot: Slot) -> int:
        """LLM positions of what is listened to aside."""
        return 0 if self.state.branch is None else int(self.state.branch.length[slot.index])

    @torch.inference_mode()
    def answer(
        self, slot: Slot, inputs: Tensor, manner: Manner, words: torch.Generator, codes: torch.Generator
    ) -> None:
        """Begin a reply after ``inputs`` [L, D], drawn by ``words`` and ``codes``; what is heard aside goes on."""
        beside = self.row(slot).utterance if self.row(slot).turn is Turn.OVERLAP else None
        turn = Turn.SPEAKING if beside is None else Turn.OVERLAP
        base = int(self.state.context.length[slot.index]) + len(inputs)
        reply, self.state = self.dialogue.speaker.begin(slot.index, base, self.state)
        self.state = with_row(
            self.state, slot.index, turn=turn, utterance=beside, pending=inputs, reply=reply, manner=manner,
            generator=words, voice=codes,
        )  # fmt: skip

    @torch.inference_mode()
    def rebase(self, slot: Slot, keys: Sequence[int], blobs: Mapping[int, Tensor]) -> None:
        """The conversation before a reply under way became ``keys``: go on with the reply after that."""
        reply = self._reply(slot)
        inputs = self.read(slot, [*keys, *reply.tokens], blobs, fresh=not reply.text_done)
        slot.keys = list(keys)
        self.state = with_row(self.state, slot.index, pending=inputs, reply=replace(reply, base=len(keys)))

    def rest(self, slot: Slot) -> None:
        """Stop whatever the slot does; its context stays."""
        slot.keys = self._known(slot)
        self.state = with_row(self.state, slot.index, turn=Turn.LISTENING, utterance=None, reply=None, pending=None)

    def stop_speaking(self, slot: Slot) -> None:
        """Forget the reply; what is listened to aside goes on."""
        slot.keys = self._known(slot)
        turn = Turn.LISTENING if self.row(slot).utterance is None else Turn.OVERLAP
        self.state = with_row(self.state, slot.index, turn=turn, reply=None, pending=None)

    def stop_listening(self, slot: Slot) -> None:
        """Forget the utterance; a reply goes on."""
        if self.row(slot).reply is None:
            self.rest(slot)
        else:
            self.state = with_row(self.state, slot.index, turn=Turn.SPEAKING, utterance=None)

    def embed(self, keys: Sequence[int], blobs: Mapping[int, Tensor]) -> Tensor:
        """[L, D] the vectors that keys stand for."""
        return self.vectors.of(keys, blobs)

    # All slots.

    def hear(self, chunks: Mapping[int, Tensor]) -> dict[int, Exception]:
        """Take in 160 ms [2560] for each of some slots; returns those that failed."""
        batch = torch.zeros(len(self.state.rows), CHUNK_SAMPLES, device=self.llm.embedding.weight.device)
        for index, chunk in chunks.items():
            batch[index] = chunk.to(batch.device)

        def run(rows: Collection[int]) -> None:
            self.state = self.dialogue.hear(batch, [i in rows for i in range(len(batch))], self.state)

        return self._each(list(chunks), run)

    def think(self, rows: Collection[int]) -> tuple[dict[int, Probabilities], dict[int, Exception]]:
        """Feed the LLM once for some slots: verdicts on what was heard, and the slots that failed."""
        probabilities: dict[int, Probabilities] = {}

        def run(some: Collection[int]) -> None:
            new, self.state = self.dialogue.think(self.state, some, LONGEST_FEED)
            probabilities.update(new)

        return probabilities, self._each(rows, run)

    def foresee(self, chunks: Mapping[int, Tensor]) -> tuple[dict[int, Probabilities], DialogueState]:
        """Verdicts as they would be if some slots heard these 160 ms [2560] next, and the state of then.

        Nothing of it stays, unless ``came_true`` is next: caches are written past their length only.
        """
        before = self.state
        failed = self.hear(chunks)
        verdicts, _ = self.think([index for index in chunks if index not in failed])
        after, self.state = self.state, before
        return verdicts, after

    def came_true(self, after: DialogueState) -> None:
        """All those slots did hear that."""
        self.state = after

    def draw(self, wanted: Mapping[int, float]) -> tuple[dict[int, list[int]], dict[int, Exception]]:
        """Draw codes for some slots, for about as many seconds of sound as ``wanted`` of each.

        Returns:
            What ``render`` has to make sound of, by slot, and the slots that failed.
        """
        codes: dict[int, list[int]] = {}

        def run(some: Collection[int]) -> None:
            state = self.dialogue.prefill(self.state, some)
            drawn, self.state = self.dialogue.draw(state, some, wanted)
            codes.update(drawn)

        return codes, self._each(list(wanted), run)

    def render(self, codes: Mapping[int, list[int]]) -> tuple[dict[int, Tensor], dict[int, Exception]]:
        """Make sound of what was drawn: new sound [S] of each slot, and the slots that failed."""
        sound: dict[int, Tensor] = {}

        def run(some: Collection[int]) -> None:
            audio, self.state = self.dialogue.render({i: codes[i] for i in some}, self.state)
            sound.update({i: audio[i].float().cpu() for i in some if len(audio[i])})

        return sound, self._each(list(codes), run)

    def bytes_per_slot(self) -> int:
        """Memory of one slot: caches and states."""
        return sum(t.numel() * t.element_size() for t in _tensors(self.state)) // len(self.state.rows)

    def _each(self, rows: Collection[int], run: Callable[[Collection[int]], None]) -> dict[int, Exception]:
        """``run`` all rows together; if that fails, each alone, to find out whose fault it is."""
        if not rows:
            return {}
        try:
            run(rows)
            return {}
        except Exception:
            logger.exception("a step over %d slots failed; trying each alone", len(rows))
        failed: dict[int, Exception] = {}
        for row in rows:
            try:
                run([row])
            except Exception as error:
                failed[row] = error
        return failed

    def _known(self, slot: Slot) -> list[int]:
        """Keys of the positions that the cache holds by now."""
        reply = self.row(slot).reply
        keys = slot.keys if reply is None else [*slot.keys[: reply.base], *reply.tokens]
        return keys[: int(self.state.context.length[slot.index])]

    def _reply(self, slot: Slot) -> Reply:
        reply = self.row(slot).reply
        assert reply is not None
        return reply

    def _open(self, slot: Slot, pending: Tensor | None, before: Tensor) -> None:
        self.state = with_row(self.state, slot.index, history=None)
        self.state = self.dialogue.ears.open(slot.index, Utterance(0, pending=pending), self.state)
        if self.state.fbank is not None:
            history = FbankState(before[None, -HISTORY_SAMPLES:].to(self.state.fbank.history))
            self.state = self.state._replace(fbank=put_row(self.state.fbank, slot.index, history))

    def _with(self, index: int, row: Row) -> DialogueState:
        rows = list(self.state.rows)
        rows[index] = row
        return self.state._replace(rows=tuple(rows))


def _tensors(state: object) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [tensor for each in state for tensor in _tensors(each)] if isinstance(state, tuple) else []

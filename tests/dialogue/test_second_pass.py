"""A turn that is over is read again as its tokens: the conversation goes on as if they had been written."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_parts import with_second_pass
from torch import Tensor

from icebreaker.dialogue import Dialogue, DialogueState, Parts
from icebreaker.dialogue.state import Utterance, with_row
from icebreaker.duplex import Committed, ReplyFinished, SpeechStarted, Turn
from icebreaker.models.ctc_search import Beam, CTCSearchConfig

CAPACITY = 600


@pytest.fixture(scope="module")
def reading(exact: Parts) -> Parts:
    return with_second_pass(exact)


def hear(dialogue: Dialogue, chunks: Tensor, state: DialogueState, played_ms: float = 0.0) -> DialogueState:
    state = dialogue.signal(0, SpeechStarted(played_ms=played_ms), state)
    for chunk in chunks:
        _, state = dialogue.step(chunk[None], [True], state)
    return state


def understood(dialogue: Dialogue, state: DialogueState) -> list[int]:
    utterance = state.rows[0].utterance
    assert utterance is not None
    assert dialogue.second_pass is not None
    ids = dialogue.second_pass.ids(utterance.vectors)
    assert ids
    return ids


def finish(dialogue: Dialogue, state: DialogueState) -> DialogueState:
    while not (reply := state.rows[0].reply) or not reply.done:
        _, state = dialogue.step(torch.zeros(1, 2560), [False], state)
    return state


def write(dialogue: Dialogue, ids: list[int], state: DialogueState) -> DialogueState:
    """The turn as text."""
    chat, row = dialogue.model.chat, state.rows[0]
    fed = dialogue.turns.embed([*row.carry, *chat.prefix_ids(first=not row.answered), *ids])
    start = int(state.context.length[0]) + (0 if row.pending is None else len(row.pending))
    state = with_row(state, 0, turn=Turn.HEARING, utterance=Utterance(start, pending=fed))
    return finish(dialogue, dialogue.signal(0, Committed(), state))


def same_context(one: DialogueState, other: DialogueState) -> None:
    length = int(one.context.length[0])
    assert length == int(other.context.length[0])
    for mine, theirs in zip(one.context.keys, other.context.keys, strict=True):
        torch.testing.assert_close(mine[:, :, :length], theirs[:, :, :length], atol=1e-4, rtol=1e-4)


def test_spoken_turns_read_as_if_they_had_been_written(reading: Parts, question: Tensor) -> None:
    dialogue = Dialogue(reading)
    state, other = (dialogue.initial_state([0], CAPACITY) for _ in range(2))
    for chunks in (question, question[:9]):
        state = hear(dialogue, chunks, state)
        ids = understood(dialogue, state)
        state = finish(dialogue, dialogue.signal(0, Committed(), state))
        other = write(dialogue, ids, other)
        same_context(state, other)
        assert state.rows[0].reply is not None
        assert other.rows[0].reply is not None
        assert state.rows[0].reply.text == other.rows[0].reply.text != ""
        state, other = (dialogue.signal(0, ReplyFinished(), each) for each in (state, other))


def test_what_the_llm_has_not_read_yet_is_not_read_twice(reading: Parts, question: Tensor) -> None:
    """A turn that ends while the LLM is behind, in the middle of the instructions and after them."""
    dialogue = Dialogue(reading)
    expected = hear(dialogue, question, dialogue.initial_state([0], CAPACITY))
    expected = finish(dialogue, dialogue.signal(0, Committed(), expected))
    opening = len(reading.chat.before_ids)
    for longest in (opening // 2, opening + 3):
        state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], CAPACITY))
        for chunk in question:
            state = dialogue.hear(chunk[None], [True], state)
        _, state = dialogue.think(state, longest=longest)
        assert int(state.context.length[0]) == longest
        same_context(finish(dialogue, dialogue.signal(0, Committed(), state)), expected)


def test_an_interruption_is_read_again_after_what_was_heard(reading: Parts, question: Tensor) -> None:
    dialogue = Dialogue(reading)
    state = hear(dialogue, question, dialogue.initial_state([0], CAPACITY))
    state = finish(dialogue, dialogue.signal(0, Committed(), state))
    reply = state.rows[0].reply
    assert reply is not None
    played_ms = 1000 * reply.spoken[0].stop_sample / dialogue.sample_rate
    state = hear(dialogue, question[:7], state, played_ms)
    assert state.rows[0].turn is Turn.OVERLAP
    ids = understood(dialogue, state)
    state = dialogue.signal(0, Committed(played_ms=played_ms), state)
    _, state = dialogue.think(state)
    kept = reply.base + reply.spoken[0].segment.stop
    added = len(reading.chat.prefix_ids(first=False)) + len(ids) + len(reading.chat.suffix_ids)
    assert int(state.context.length[0]) == kept + added


def test_transcripts_are_those_of_the_second_pass(reading: Parts, question: Tensor) -> None:
    dialogue = Dialogue(reading)
    state = hear(dialogue, question, dialogue.initial_state([0], CAPACITY))
    utterance = state.rows[0].utterance
    assert utterance is not None
    assert dialogue.transcribe(utterance) == reading.llm.tokenizer.decode(understood(dialogue, state)).strip() != ""
    utterance = replace(utterance, beams=(Beam(),))  # not searched yet
    mute = replace(reading.settings, second_pass=CTCSearchConfig(weight=0.0, bonus=-1e6))
    assert Dialogue(replace(reading, settings=mute)).transcribe(utterance) == ""
    assert Dialogue(replace(reading, settings=mute, language=None)).transcribe(utterance) != ""


def test_the_chance_of_an_end_counts_in_the_verdict(reading: Parts, question: Tensor) -> None:
    """By its power in the odds of taking the turn; the other two share the rest as before."""
    plain = Dialogue(reading)
    even = Dialogue(replace(reading, settings=replace(reading.settings, completeness=0.7, completeness_even=-2.0)))
    states = [dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], CAPACITY)) for dialogue in (plain, even)]
    compared = 0
    for chunk in question:
        outputs = []
        for i, dialogue in enumerate((plain, even)):
            output, states[i] = dialogue.step(chunk[None], [True], states[i])
            outputs.append(output[0].probabilities)
        utterance = states[1].rows[0].utterance
        if utterance is None or None in outputs:
            continue
        assert utterance.beams[-1].frames == sum(map(len, utterance.vectors)), "all that was heard is searched"
        (keep, take, ignore), (keep2, take2, ignore2) = outputs
        assert even.second_pass is not None
        ids, end = even.second_pass.search.best(utterance.beams[-1])
        factor = math.exp(0.7 * (max(end, -10.0) + 2.0)) if ids else 1.0
        assert take2 / (1 - take2) == pytest.approx(take / (1 - take) * factor, rel=1e-4)
        assert keep2 / ignore2 == pytest.approx(keep / ignore, rel=1e-4)
        assert keep2 + take2 + ignore2 == pytest.approx(keep + take + ignore)
        over = even.second_pass.judged((keep, take, ignore), utterance, over=True)[1]
        assert over == pytest.approx(min(take, take2)), "over the assistant's speech nothing is surer by it"
        compared += bool(ids)
    assert compared > 5


def test_a_beginning_is_what_it_would_be_alone(reading: Parts, question: Tensor) -> None:
    """Where a turn ends is known some chunks later; it does not matter whether that is still remembered."""
    dialogue = Dialogue(reading)
    state = hear(dialogue, question, dialogue.initial_state([0], CAPACITY))
    utterance = state.rows[0].utterance
    assert utterance is not None
    assert dialogue.second_pass is not None
    vectors = torch.cat(utterance.vectors)
    for count in (3, 8, len(vectors) - 6, len(vectors) - 5, len(vectors)):
        assert dialogue.second_pass.said(utterance, count) == dialogue.second_pass.ids([vectors[:count]])

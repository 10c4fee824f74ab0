"""The whole path on the official tiny checkpoints: parity, drifting batches, rollback."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.dialogue import Dialogue, DialogueState, Parts, StepOutput
from icebreaker.duplex import Committed, DuplexConfig, ReplyFinished, SpeechStarted, Turn, UserInterrupted

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
SILENCE = torch.zeros(1, 2560)
CAPACITY = 600


def listen(dialogue: Dialogue, question: Tensor, state: DialogueState) -> DialogueState:
    state = dialogue.signal(0, SpeechStarted(), state)
    for chunk in question:
        _, state = dialogue.step(chunk[None], [True], state)
    return state


def speak(dialogue: Dialogue, state: DialogueState) -> tuple[list[StepOutput], DialogueState]:
    state = dialogue.signal(0, Committed(), state)
    outputs = []
    for _ in range(5000):
        step, state = dialogue.step(SILENCE, [False], state)
        outputs += step
        if step[0].done:
            return outputs, state
    raise AssertionError("the reply never ended")


def converse(dialogue: Dialogue, question: Tensor) -> tuple[list[StepOutput], DialogueState]:
    return speak(dialogue, listen(dialogue, question, dialogue.initial_state([0], CAPACITY)))


def waveform(outputs: Sequence[StepOutput]) -> Tensor:
    return torch.cat([output.waveform for output in outputs])


def packets(outputs: Sequence[StepOutput]) -> list[int]:
    return [len(output.waveform) for output in outputs if len(output.waveform)]


def test_offline_script_end_to_end(offline: Parts, question: Tensor, e2e: dict[str, Any]) -> None:
    expected = np.load(GOLDEN / "expected" / "e2e_offline.npz")
    outputs, state = converse(Dialogue(offline), question)
    reply = state.rows[0].reply
    assert reply is not None
    assert list(reply.tokens) == e2e["offline"]["text_token_ids"]
    assert [each.segment.text for each in reply.spoken] == _texts(e2e["offline"]["segments"], reply.text)
    lengths = [each.stop_sample - each.start_sample for each in reply.spoken]
    assert lengths == [sum(segment["pieces"]) for segment in e2e["offline"]["segments"]]
    torch.testing.assert_close(waveform(outputs), torch.from_numpy(expected["wav"]), atol=1e-4, rtol=0)
    assert int(state.context.length[0]) == 98  # the official cache at the end


def test_server_end_to_end(server: Parts, question: Tensor, e2e: dict[str, Any]) -> None:
    expected = np.load(GOLDEN / "expected" / "e2e_server.npz")
    dialogue = Dialogue(server).with_duplex(DuplexConfig(take_threshold=1.0, ignore_threshold=1.0))
    outputs, _ = converse(dialogue, question)
    assert packets(outputs) == e2e["server"]["packet_lengths"]
    pcm = (waveform(outputs) * 32768).to(torch.int32)
    assert (pcm - torch.from_numpy(expected["pcm"].astype(np.int32))).abs().max() <= 1


def test_turn_head_takes_the_turn_where_the_official_server_does(server: Parts, e2e: dict[str, Any]) -> None:
    """Scripted voice activity begins at chunk 9; six chunks of pre-roll come first (golden duplex trace)."""
    pcm = np.load(GOLDEN / "expected" / "vad.npz")["pcm"]
    chunks = torch.from_numpy(pcm.astype(np.float32) / 32768).view(-1, 1, 2560)
    trace = {(each["chunk"], each["fed"]): each["state_probs"] for each in e2e["duplex"]["trace"]}
    dialogue = Dialogue(server)
    state = dialogue.initial_state([0], 1200)
    for index in range(9):
        _, state = dialogue.step(chunks[index], [True], state)
    (heard,), state = dialogue.step(chunks[9], [True], state, {0: [SpeechStarted()]})
    assert heard.probabilities == pytest.approx(trace[9, "current"], abs=1e-4)
    (heard,), state = dialogue.step(chunks[10], [True], state)
    assert heard.probabilities == pytest.approx(trace[10, "cl"], abs=1e-4)
    assert heard.turn is Turn.SPEAKING
    outputs = [heard]
    while not outputs[-1].done and len(outputs) < 2000:  # the last segment runs into the limit of 1000 codes
        step, state = dialogue.step(SILENCE, [False], state)
        outputs += step
    expected = e2e["duplex"]["first_reply"]
    assert state.rows[0].reply is not None
    assert state.rows[0].reply.text == expected["whole_text"]
    got = packets(outputs)
    assert got[:8] == expected["packet_lengths"][:8]
    # No margin is claimed for the codes of the runaway segment; the packets before are its predecessors' and its start.
    sure = sum(got[:8])
    pcm = torch.from_numpy(np.load(GOLDEN / "expected" / "duplex_reply.npz")["pcm"].astype(np.int32))
    assert ((waveform(outputs)[:sure] * 32768).to(torch.int32) - pcm[:sure]).abs().max() <= 1
    assert sum(got) == len(pcm)


def test_first_sound_before_the_text_ends(exact: Parts, question: Tensor) -> None:
    outputs, _ = converse(Dialogue(exact), question)
    first_sound = next(i for i, output in enumerate(outputs) if len(output.waveform))
    last_text = max(i for i, output in enumerate(outputs) if output.text)
    assert first_sound < last_text


@pytest.mark.parametrize("silent_codes", [0, 4])
def test_stream_equals_offline_decode(exact: Parts, question: Tensor, silent_codes: int) -> None:
    """What was streamed in steps of three codes is, segment by segment, the codec's offline decode, less silence."""
    parts = replace(exact, settings=replace(exact.settings, codes_per_step=3, silent_codes=silent_codes))
    dialogue = Dialogue(parts)
    state = dialogue.signal(0, Committed(), listen(dialogue, question, dialogue.initial_state([0], CAPACITY)))
    codes: list[list[int]] = [[]]
    audio = []
    for _ in range(2000):
        _, state = dialogue.think(state)
        state = dialogue.prefill(state)
        drawn, state = dialogue.draw(state)
        codes[-1] += drawn.get(0, [])
        new, state = dialogue.render(drawn, state)
        audio.append(new[0])
        reply = state.rows[0].reply
        assert reply is not None
        if drawn and reply.speaking is None:
            codes.append([])
        if reply.done:
            break
    offline = [parts.codec.decode(torch.tensor([segment]), parts.voice)[0] for segment in codes if segment]
    assert len(offline) > 1
    offline[0] = offline[0][silent_codes * parts.codec.config.hop_length :]
    torch.testing.assert_close(torch.cat(audio), torch.cat(offline), atol=1e-5, rtol=0)
    assert reply.spoken[0].start_sample == 0
    assert reply.spoken[-1].stop_sample == sum(map(len, offline))


def test_drifting_batch_equals_rows_alone(exact: Parts, question: Tensor) -> None:
    """Three conversations that begin at different times, with different questions, share every call."""
    settings = replace(exact.settings, text=replace(exact.settings.text, temperature=0.9, top_k=5))
    dialogue = Dialogue(replace(exact, settings=settings))
    questions = [question[:6], question.flip(0)[:9], question[4:12]]
    starts = [0, 3, 7]
    alone = []
    for seed, chunks in enumerate(questions):
        state = listen(dialogue, chunks, dialogue.initial_state([seed], CAPACITY))
        outputs, _ = speak(dialogue, state)
        alone.append((waveform(outputs), "".join(output.text for output in outputs)))
    state = dialogue.initial_state([0, 1, 2], CAPACITY)
    together: list[list[StepOutput]] = [[], [], []]
    for tick in range(3000):
        chunk, active, events = torch.full((3, 2560), torch.nan), [False] * 3, {}
        for i, (start, chunks) in enumerate(zip(starts, questions, strict=True)):
            if start <= tick < start + len(chunks):
                chunk[i], active[i] = chunks[tick - start], True
            events[i] = [SpeechStarted()] if tick == start else [Committed()] if tick == start + len(chunks) else []
        outputs, state = dialogue.step(chunk, active, state, events)
        for i, output in enumerate(outputs):
            together[i].append(output)
        if all(output.done for output in outputs):
            break
    for i, (sound, text) in enumerate(alone):
        assert "".join(output.text for output in together[i]) == text
        torch.testing.assert_close(waveform(together[i]), sound, atol=1e-4, rtol=0)


def test_interrupted_reply_leaves_what_was_heard(exact: Parts, question: Tensor) -> None:
    """After a barge-in the context is, value for value, that of a conversation whose reply had been that short."""
    dialogue = Dialogue(exact)
    _, state = converse(dialogue, question)
    reply = state.rows[0].reply
    assert reply is not None
    rate = dialogue.sample_rate
    first = reply.spoken[0]
    assert len(reply.tokens) > first.segment.stop > 0
    cut = dialogue.signal(0, UserInterrupted(played_ms=1000 * first.stop_sample / rate), state)
    assert cut.rows[0].turn is Turn.LISTENING
    length = int(cut.context.length[0])
    assert length == reply.base + first.segment.stop

    other = dialogue.signal(0, Committed(), listen(dialogue, question, dialogue.initial_state([0], CAPACITY)))
    suffix_fed = dialogue.think(other)[1]
    ids = torch.tensor([reply.tokens[: first.segment.stop]])
    with torch.inference_mode():
        fed = exact.llm(exact.llm.embed(ids), suffix_fed.context, torch.tensor([ids.shape[1]]))[1]
    for ours, fresh in zip(cut.context.keys, fed.keys, strict=True):
        torch.testing.assert_close(ours[:, :, :length], fresh[:, :, :length], atol=1e-5, rtol=1e-5)


def test_unheard_reply_leaves_nothing(exact: Parts, question: Tensor) -> None:
    dialogue = Dialogue(exact)
    _, state = converse(dialogue, question)
    reply = state.rows[0].reply
    assert reply is not None
    cut = dialogue.signal(0, UserInterrupted(played_ms=0.0), state)
    assert int(cut.context.length[0]) == reply.base
    assert cut.rows[0].carry == ()


def test_second_turn_goes_on_from_the_first(offline: Parts, question: Tensor) -> None:
    dialogue = Dialogue(offline)
    _, state = converse(dialogue, question)
    state = dialogue.signal(0, ReplyFinished(), state)
    assert state.rows[0].turn is Turn.LISTENING
    before = int(state.context.length[0])
    state = listen(dialogue, question[:8], state)
    grown = int(state.context.length[0]) - before
    prompts = len(offline.prompts.prompt_embeddings.weight)
    assert grown == len(offline.chat.prefix_ids(first=False)) + prompts + 2 * 8


def test_barge_in_replays_the_utterance_on_what_was_heard(exact: Parts, question: Tensor) -> None:
    """Speech during a reply is heard on a branch; when it takes the turn, nothing unheard is left in the context."""
    dialogue = Dialogue(exact)
    _, state = converse(dialogue, question)
    reply = state.rows[0].reply
    assert reply is not None
    played_ms = 1000 * reply.spoken[0].stop_sample / dialogue.sample_rate
    state = dialogue.signal(0, SpeechStarted(played_ms=played_ms), state)
    assert state.rows[0].turn is Turn.OVERLAP
    untouched = int(state.context.length[0])
    for chunk in question[:5]:
        _, state = dialogue.step(chunk[None], [True], state)
        assert int(state.context.length[0]) == untouched
    state = dialogue.signal(0, Committed(played_ms=played_ms), state)
    assert state.rows[0].turn is Turn.SPEAKING
    _, state = dialogue.think(state)
    prompts = len(exact.prompts.prompt_embeddings.weight)
    heard = reply.base + reply.spoken[0].segment.stop
    added = len(exact.chat.prefix_ids(first=False)) + prompts + 2 * 5 + len(exact.chat.suffix_ids)
    assert int(state.context.length[0]) == heard + added


@pytest.mark.parametrize("ending", [ReplyFinished(), UserInterrupted(played_ms=1e6)], ids=["played", "stopped"])
def test_who_speaks_over_the_end_of_a_reply_is_heard_from_the_start(
    exact: Parts, question: Tensor, ending: ReplyFinished | UserInterrupted
) -> None:
    """The reply ends while the user speaks: all of the utterance is in the conversation, as if nobody spoke over it."""
    dialogue = Dialogue(exact)
    _, state = converse(dialogue, question)
    state = dialogue.signal(0, SpeechStarted(played_ms=1e6), state)
    for chunk in question[:3]:
        _, state = dialogue.step(chunk[None], [True], state)
    state = dialogue.signal(0, ending, state)
    assert state.rows[0].turn is Turn.HEARING
    for chunk in question[3:5]:
        _, state = dialogue.step(chunk[None], [True], state)

    _, other = converse(dialogue, question)
    other = dialogue.signal(0, ReplyFinished(), other)
    other = dialogue.signal(0, SpeechStarted(), other)
    for chunk in question[:5]:
        _, other = dialogue.step(chunk[None], [True], other)
    length = int(other.context.length[0])
    assert int(state.context.length[0]) == length
    for ours, fresh in zip(state.context.keys, other.context.keys, strict=True):
        torch.testing.assert_close(ours[:, :, :length], fresh[:, :, :length], atol=1e-4, rtol=1e-4)


def test_wrong_audio_shape_is_refused(exact: Parts) -> None:
    dialogue = Dialogue(exact)
    state = dialogue.initial_state([0], 50)
    with pytest.raises(ValueError, match=r"expected a waveform of shape \(1, 2560\)"):
        dialogue.step(torch.zeros(1, 2559), [True], state)


def _texts(segments: Sequence[dict[str, Any]], whole: str) -> list[str]:
    """The raw texts of the golden segments, which are stored after post-processing: cut by their token counts."""
    assert sum(segment["n_hidden"] for segment in segments) > 0
    raw, rest = [], whole
    for segment in segments:
        stop = next(i for i, letter in enumerate(rest, 1) if letter in "。：？！.?!\n" or i == len(rest))
        raw.append(rest[:stop])
        rest = rest[stop:]
        assert segment["text"]
    return raw


def test_bfloat16_parts_hear_judge_and_speak(exact: Parts, question: Tensor) -> None:
    half = copy.deepcopy(exact)  # features and codec stay in float32, as when a bundle is loaded
    for module in (half.encoder, half.adapter, half.prompts, half.turn_head, half.codec_lm, half.llm.model):
        module.to(torch.bfloat16)
    dialogue = Dialogue(half)
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], CAPACITY))
    for chunk in question[:3]:
        outputs, state = dialogue.step(chunk[None], [True], state)
        assert outputs[0].probabilities is not None
        assert sum(outputs[0].probabilities) == pytest.approx(1, abs=0.02)
    spoken, _ = speak(dialogue, state)
    assert spoken[-1].done
    assert len(waveform(spoken)) > 0

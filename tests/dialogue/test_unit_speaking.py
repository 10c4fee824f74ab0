import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omni_golden import OMEGAS, OMNI, arrays, facts, omni_parts, waveform
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.dialogue import Dialogue, DialogueState
from icebreaker.dialogue.parts import UnitOutConfig
from icebreaker.dialogue.state import Manner, Reply, with_row
from icebreaker.duplex import Committed, ReplyFinished, SpeechStarted, SpeechStopped, Turn, UserInterrupted
from icebreaker.errors import ConfigError
from icebreaker.models.unit_ctc import UnitCTC


def dialogue_with(omega: int = 10, **changes: object) -> Dialogue:
    parts = omni_parts()
    settings = replace(parts.settings, unit_out=UnitOutConfig(omega=omega, rule="independent"), **changes)  # type: ignore[arg-type]
    return Dialogue(replace(parts, settings=settings))


def chunks(sound: Tensor) -> list[Tensor]:
    padded = torch.nn.functional.pad(sound, (0, -len(sound) % CHUNK_SAMPLES))
    return list(padded.split(CHUNK_SAMPLES))


def heard(dialogue: Dialogue, sound: Tensor) -> DialogueState:
    """A conversation whose user has said ``sound`` and is to be answered."""
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], 1200))
    for chunk in chunks(sound):
        state = dialogue.hear(chunk[None], [True], state)
    return dialogue.signal(0, Committed(), state)


def spoken(dialogue: Dialogue, state: DialogueState) -> tuple[Tensor, list[tuple[int, list[int]]], DialogueState]:
    """The reply's sound, and its chunks: after how many states, and which units."""
    pieces, chunked = [], []
    while (reply := state.rows[0].reply) is not None and not reply.done:
        _, state = dialogue.think(state)
        drawn, state = dialogue.draw(dialogue.prefill(state))
        audio, state = dialogue.render(drawn, state)
        pieces.append(audio[0])
        reply = state.rows[0].reply
        assert reply is not None
        assert reply.units is not None
        chunked += [(reply.units.states, units) for units in drawn.values() if units]
    return torch.cat(pieces), chunked, state


def expected_chunks(case: str, omega: str) -> list[tuple[int, list[int]]]:
    stored = facts(f"g5_stream_{case}")["chunks_by_omega"][omega]
    return [(chunk["after_text_token"], chunk["units"]) for chunk in stored]


@torch.inference_mode()
def test_prompt_and_inputs_are_the_official_ones() -> None:
    parts, golden = omni_parts(), arrays("g4_llm_a")
    before = [*parts.chat.before_ids, *parts.chat.prefix_ids(first=True)]
    ids = [*before, -200, *parts.chat.suffix_ids]
    assert ids == facts("g4_prompt")["prompt_ids"] == golden["prompt_ids"].tolist()
    text = parts.llm.tokenizer.decode(before[1:]) + "<speech>" + parts.llm.tokenizer.decode(parts.chat.suffix_ids)
    assert text == facts("g4_prompt")["prompt_string"]
    for case in "ab":
        speech = parts.adaptor.whole(parts.encoder(parts.features(waveform(case)[None])))[0]
        pieces = [parts.llm.embed(torch.tensor([side]))[0] for side in (before, parts.chat.suffix_ids)]
        inputs = torch.cat([pieces[0], speech, pieces[1]])
        golden = arrays(f"g4_llm_{case}")
        torch.testing.assert_close(inputs, golden["inputs_embeds"], atol=1e-4, rtol=0)
        layers = parts.llm.model.model(inputs_embeds=inputs[None], output_hidden_states=True).hidden_states
        last = torch.stack([layer[0, -1] for layer in layers])
        torch.testing.assert_close(last, golden["prefill_last_all_layers"], atol=2e-4, rtol=0)


def test_end_to_end_case_a_streaming(tmp_path: Path) -> None:
    dialogue, golden = dialogue_with(omega=10), arrays("g4_llm_a")
    sound, chunked, state = spoken(dialogue, heard(dialogue, waveform("a")))
    reply = state.rows[0].reply
    assert reply is not None
    known = facts("g8_e2e")["a"]
    assert [*reply.tokens, 489] == known["text_ids"] == golden["text_ids"].tolist()  # 489 ends it
    assert reply.text.strip() == known["text"]
    hidden = torch.stack(reply.hidden)
    torch.testing.assert_close(hidden, golden["hidden"], atol=2e-4, rtol=0)
    torch.testing.assert_close(dialogue.model.llm.logits(hidden), golden["step_logits"], atol=1e-3, rtol=0)
    assert chunked == expected_chunks("a", "10")
    assert [unit for _, units in chunked for unit in units] == known["units"]
    torch.testing.assert_close(sound, arrays("g6_vocoder_chunks")["omega10_wav_dur"], atol=1e-4, rtol=0)
    assert len(sound) == known["streaming_omega10_n_samples"]
    assert_same_file(sound, "a_omega10", tmp_path)
    assert reply.spoken[-1].segment.stop == len(reply.tokens)
    assert reply.spoken[-1].stop_sample == len(sound)
    assert "".join(span.segment.text for span in reply.spoken) == reply.text


def test_end_to_end_case_a_offline(tmp_path: Path) -> None:
    dialogue = dialogue_with(omega=0)
    sound, _, _ = spoken(dialogue, heard(dialogue, waveform("a")))
    torch.testing.assert_close(sound, arrays("g6_vocoder")["wav_dur"], atol=1e-4, rtol=0)
    assert_same_file(sound, "a_offline", tmp_path)


def test_end_to_end_case_b_is_cut_and_limited(tmp_path: Path) -> None:
    """31 s, cut to 30 as the official front end does; 20 tokens, the limit."""
    dialogue, known = dialogue_with(omega=0, long_speech="cut", max_text_tokens=20), facts("g8_e2e")["b"]
    recording = torch.from_numpy(load_audio(_audio("b"), 16_000))
    assert len(recording) > 30 * 16_000
    sound, chunked, state = spoken(dialogue, heard(dialogue, recording))
    reply = state.rows[0].reply
    assert reply is not None
    assert list(reply.tokens) == known["text_ids"]
    assert reply.text.strip() == known["text"]
    assert chunked == expected_chunks("b", "inf")
    torch.testing.assert_close(sound, arrays("g8_e2e_b_wav")["wav_dur"], atol=1e-4, rtol=0)
    assert_same_file(sound, "b_offline", tmp_path)


@pytest.mark.parametrize("omega", OMEGAS)
@pytest.mark.parametrize("case", ["a", "b"])
def test_chunks_follow_the_rule_and_units_equal_offline(case: str, omega: str) -> None:
    dialogue = dialogue_with(omega=0 if omega == "inf" else int(omega))
    golden, known = arrays(f"g4_llm_{case}"), facts(f"g5_stream_{case}")
    reply, state = dialogue.speaker.begin(0, 0, dialogue.initial_state([0], 8))
    ids, chunked, emitted = golden["text_ids"].tolist(), [], []
    for i, hidden in enumerate(golden["hidden"]):
        written = replace(
            reply, tokens=tuple(ids[: i + 1]), hidden=(*reply.hidden, hidden), text_done=i + 1 == len(ids)
        )
        reply = dialogue.speaker.wrote(written, Manner())
        drawn, state = dialogue.draw(with_row(state, 0, reply=reply, pending=None))
        _, state = dialogue.render(drawn, state)
        reply = _reply(state)
        assert reply.units is not None
        emitted.append(reply.units.counts[-1])
        chunked += [(i + 1, units) for units in drawn.values() if units]
    assert emitted == [len(units) for units in known["units_emitted_after_each_text_token"]]
    assert chunked == expected_chunks(case, omega)
    assert [unit for _, units in chunked for unit in units] == known["units"]
    assert reply.done


def test_two_conversations_that_drift_apart_say_what_each_says_alone() -> None:
    dialogue, short = dialogue_with(omega=10, max_text_tokens=12), waveform("a")[: 3 * CHUNK_SAMPLES]
    alone = [spoken(dialogue, heard(dialogue, sound))[0] for sound in (waveform("a"), short)]
    state = dialogue.initial_state([0, 0], 1200)
    state = dialogue.signal(1, SpeechStarted(), dialogue.signal(0, SpeechStarted(), state))
    for i, chunk in enumerate(chunks(waveform("a"))):
        piece = torch.stack([chunk, chunks(short)[min(i, 2)]])
        state = dialogue.hear(piece, [True, i < 3], state)
    state = dialogue.signal(0, Committed(), state)
    pieces: list[list[Tensor]] = [[], []]
    for step in range(40):
        if step == 5:
            state = dialogue.signal(1, Committed(), state)
        _, state = dialogue.think(state)
        drawn, state = dialogue.draw(state)
        audio, state = dialogue.render(drawn, state)
        for row, new in zip(pieces, audio, strict=True):
            row.append(new)
    for row, expected in zip(pieces, alone, strict=True):
        torch.testing.assert_close(torch.cat(row), expected, atol=1e-4, rtol=0)


def test_longer_speech_is_heard_in_windows() -> None:
    dialogue = dialogue_with()
    recording = torch.from_numpy(load_audio(_audio("b"), 16_000))
    state = heard(dialogue, recording)
    pending = state.rows[0].pending
    assert pending is not None
    assert len(pending) == 67 + 2 * 300
    assert dialogue.positions(31.0) == 600
    cut = heard(dialogue_with(long_speech="cut"), recording).rows[0].pending
    assert cut is not None
    assert len(cut) == 67 + 300


def test_silence_ends_the_turn_and_an_interruption_keeps_what_was_heard() -> None:
    dialogue = dialogue_with(omega=1)
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], 1200))
    outputs, state = dialogue.step(chunks(waveform("a"))[0][None], [True], state)
    assert outputs[0].turn is Turn.HEARING
    assert outputs[0].probabilities is None
    state = dialogue.signal(0, SpeechStopped(), state)
    assert state.rows[0].turn is Turn.SPEAKING
    while not _reply(state).spoken or len(_reply(state).spoken) < 3:
        _, state = dialogue.think(state)
        drawn, state = dialogue.draw(state)
        _, state = dialogue.render(drawn, state)
    reply = _reply(state)
    first = reply.spoken[0]
    after = dialogue.signal(0, UserInterrupted(played_ms=first.stop_sample / 16), state)
    assert int(after.context.length[0]) == reply.base + first.segment.stop
    assert dialogue.signal(0, ReplyFinished(), state).rows[0].reply is None


def test_a_reply_in_text_alone_makes_no_sound() -> None:
    dialogue = dialogue_with(max_text_tokens=3)
    state = with_row(dialogue.initial_state([0], 1200), 0, manner=Manner(spoken=False))
    state = dialogue.signal(0, Committed(), dialogue.signal(0, SpeechStarted(), state))
    while not _reply(state).done:
        _, state = dialogue.think(state)
        drawn, state = dialogue.draw(state)
        assert drawn == {}


def test_states_read_after_the_token_need_one_step_more() -> None:
    """The rule of the released training code: the state at the token's own position, the end's included."""
    parts = omni_parts()
    reading = UnitCTC(dataclasses.replace(parts.unit_ctc.config, states="reading")).eval()
    reading.load_state_dict(parts.unit_ctc.state_dict())
    dialogue = Dialogue(replace(parts, unit_ctc=reading))
    _, _, state = spoken(dialogue, heard(dialogue, waveform("a")))
    reply = _reply(state)
    assert reply.units is not None
    assert reply.units.states == 35
    ids = torch.tensor([[*reply.tokens, 489]])
    embeddings = torch.cat([arrays("g4_llm_a")["inputs_embeds"][None], parts.llm.embed(ids)], dim=1)
    length = embeddings.shape[1]
    whole, _ = parts.llm(embeddings, parts.llm.new_cache(1, length), torch.tensor([length]))
    torch.testing.assert_close(torch.stack(reply.hidden[1:]), whole[0, 367:], atol=2e-4, rtol=0)
    assert int(state.context.length[0]) == reply.base + len(reply.tokens)  # the end itself is not kept
    units, _ = reading.units(whole[:, 367:], torch.tensor([35]), reading.initial_state(1))
    assert list(reply.units.counts) != arrays("g5_ctc_a")["units_per_token"].tolist()
    assert sum(reply.units.counts) == len(units[0])


def test_what_only_freeze_omni_has_is_said_plainly() -> None:
    with pytest.raises(ConfigError, match="expected a Freeze-Omni model"):
        _ = dialogue_with().parts


def _reply(state: DialogueState) -> Reply:
    reply = state.rows[0].reply
    assert reply is not None
    return reply


def assert_same_file(sound: Tensor, name: str, folder: Path) -> None:
    """Written by us, ``sound`` is the official file, but for a step or two of 16 bits."""
    save_wav(folder / "ours.wav", sound.numpy(), 16_000)
    ours, rate = soundfile.read(folder / "ours.wav", dtype="int16")
    theirs, their_rate = soundfile.read(OMNI / "golden" / f"g8_e2e_{name}.wav", dtype="int16")
    assert (rate, ours.shape) == (their_rate, theirs.shape)
    assert int(np.abs(ours.astype(int) - theirs).max()) <= 4


def _audio(name: str) -> Path:
    return OMNI / "audio" / f"{name}.wav"

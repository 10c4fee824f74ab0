"""A conversation by microphone, with people made of arrays: what is heard, answered, played and kept."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker import talking
from icebreaker.audio.vad import WINDOW_SAMPLES, Silero, SileroState
from icebreaker.checkpoints.find import load_parts
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.parts import WaveOutConfig
from icebreaker.duplex import DuplexConfig
from icebreaker.errors import AudioError, ConfigError
from icebreaker.models.sampling import GREEDY
from icebreaker.nn.packed import PackedLinear
from icebreaker.talking import answer_file, load_dialogue, talk_by_microphone

GOLDEN = Path(__file__).parent / "golden" / "freeze-omni-tiny"
Waveform = NDArray[np.float32]


@pytest.fixture(scope="module")
def dialogue() -> Dialogue:
    """Short answers, and a state head that takes the turn readily."""
    parts = load_parts(GOLDEN / "checkpoints", GOLDEN / "llm")
    settings = replace(
        parts.settings, text=GREEDY, speech=GREEDY, wave_out=WaveOutConfig(), mask_special_codes=True, max_codes=20,
        max_text_tokens=8, duplex=DuplexConfig(take_threshold=0.001, ignore_threshold=1.0),
    )  # fmt: skip
    return Dialogue(replace(parts, settings=settings))


class Desk:
    """A microphone that hears what is put before it, and a loudspeaker that remembers what it played."""

    def __init__(self, blocks: list[Waveform], monkeypatch: pytest.MonkeyPatch) -> None:
        self.blocks, self.cleared, self.drained = blocks, 0, 0
        self.played: list[Waveform] = []
        monkeypatch.setattr(talking, "Microphone", lambda: self)
        monkeypatch.setattr(talking, "Speaker", lambda rate: self)

    def __enter__(self) -> "Desk":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Waveform]:
        yield from self.blocks
        raise KeyboardInterrupt

    def play(self, waveform: Waveform) -> None:
        self.played.append(waveform)

    def drain(self) -> bool:
        self.drained += 1
        return True

    def clear(self) -> None:
        self.cleared += 1


class AlwaysSpeech(Silero):
    def __call__(self, waveform: Tensor, state: SileroState) -> tuple[Tensor, SileroState]:
        return torch.ones(1, waveform.shape[1] // WINDOW_SAMPLES), state


@pytest.fixture
def spoken(speech: Waveform) -> list[Waveform]:
    return list(np.split(speech, len(speech) // 2560))


@pytest.fixture(scope="module")
def speech() -> Waveform:
    """The question that ships with the repository, in whole blocks after half a second of silence."""
    samples, rate = soundfile.read(Path(__file__).parents[1] / "examples" / "question.wav", dtype="float32")
    assert rate == 16_000
    samples = np.concatenate([np.zeros(8000, np.float32), samples])
    return np.pad(samples, (0, -len(samples) % 2560))


def test_a_large_encoder_is_packed_and_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_dialogue(str(GOLDEN / "checkpoints"), GOLDEN / "llm").parts.encoder
    monkeypatch.setattr(talking, "PACK_FROM", 0)
    packed = load_dialogue(str(GOLDEN / "checkpoints"), GOLDEN / "llm").parts.encoder
    assert any(isinstance(module, PackedLinear) for module in packed.modules())
    assert not any(isinstance(module, PackedLinear) for module in plain.modules())
    fbank = torch.from_numpy(np.random.default_rng(0).normal(8, 3, (1, 160, 80)).astype(np.float32))
    with torch.inference_mode():
        ours, theirs = (each.encode(fbank, torch.tensor([160]))[0] for each in (packed, plain))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_large_llm_and_speech_decoder_are_halved_where_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_dialogue("mini", None).parts
    monkeypatch.setattr(talking, "PACK_FROM", 0)
    halved = load_dialogue("mini", None).parts
    for ours, theirs in ((halved.llm, plain.llm), (halved.codec_lm, plain.codec_lm)):
        assert any(isinstance(module, PackedLinear) for module in ours.modules())
        assert not any(isinstance(module, torch.nn.Linear) for module in ours.modules())
        assert not any(isinstance(module, PackedLinear) for module in theirs.modules())
    ids, lengths = torch.arange(2, 42)[None], torch.tensor([40])
    with torch.inference_mode():
        ours, theirs = (
            each.llm(each.llm.embed(ids), each.llm.new_cache(1, 40), lengths)[0] for each in (halved, plain)
        )
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_question_is_answered_and_kept(
    dialogue: Dialogue, spoken: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, said = Desk(spoken, monkeypatch), []
    talk_by_microphone(dialogue, say=said.append, out=tmp_path / "answers.wav")
    assert desk.drained == desk.cleared >= 1  # what was recorded during an answer is not heard
    assert "".join(said).count("\n") >= desk.drained
    assert "".join(said).strip()
    kept, rate = soundfile.read(tmp_path / "answers.wav", dtype="float32")
    assert rate == dialogue.sample_rate
    played = np.concatenate(desk.played)
    assert np.abs(kept - played.clip(-1, 32767 / 32768)).max() < 1e-4


def test_silence_is_not_answered(dialogue: Dialogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk([np.zeros(2560, np.float32)] * 20, monkeypatch)
    talk_by_microphone(dialogue, out=tmp_path / "answers.wav")
    assert desk.played == []
    assert not (tmp_path / "answers.wav").exists()


def test_an_unplugged_microphone_keeps_what_was_answered(
    dialogue: Dialogue, spoken: list[Waveform], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unplugged(Desk):
        def __iter__(self) -> Iterator[Waveform]:
            yield from self.blocks
            raise AudioError("expected sound from the microphone, got none")

    Unplugged(spoken, monkeypatch)
    with pytest.raises(AudioError, match="got none"):
        talk_by_microphone(dialogue, out=tmp_path / "answers.wav")
    assert soundfile.info(tmp_path / "answers.wav").frames > 0


def test_a_conversation_that_fills_its_context_says_so(
    dialogue: Dialogue, spoken: list[Waveform], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is one endless utterance, before the LLM's cache overflows."""
    monkeypatch.setattr(talking, "MICROPHONE_CAPACITY", talking.REPLY_POSITIONS + 60)
    monkeypatch.setattr(talking, "Silero", AlwaysSpeech)
    Desk(spoken * 40, monkeypatch)
    patient = dialogue.with_duplex(DuplexConfig(take_threshold=1.0, ignore_threshold=1.0))
    with pytest.raises(AudioError, match="filled the context"):
        talk_by_microphone(patient)


def test_times_and_texts_of_a_file(dialogue: Dialogue) -> None:
    said: list[str] = []
    path = Path(__file__).parents[1] / "examples" / "question.wav"
    answer = answer_file(dialogue, path, say=said.append)
    assert "".join(said).strip() == answer.text
    assert answer.question_s == pytest.approx(soundfile.info(path).duration, abs=0.16)
    assert list(answer.latency_ms) == ["first text", "speech decoder prefilled", "first codes", "first sound"]
    assert answer.total_ms >= answer.latency_ms["first sound"]
    assert answer.ended_by == "end of file"
    report = answer.report()
    assert report["answer_s"] == pytest.approx(len(answer.waveform) / 24_000, abs=1e-3)
    assert report["real_time_factor"] == pytest.approx(answer.real_time_factor, abs=1e-3)
    early = answer_file(dialogue, path, use_turn_head=True)
    assert early.ended_by == "turn head"
    assert early.question_s < answer.question_s


@pytest.mark.parametrize("device", ["toaster", "meta"])
def test_a_device_that_is_not_here(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used here"):
        load_dialogue("mini", None, device=device)


def test_another_system_prompt(dialogue: Dialogue) -> None:
    other = load_dialogue(str(GOLDEN / "checkpoints"), GOLDEN / "llm", system="You are kind.")
    tokenizer = other.parts.llm.tokenizer
    assert tokenizer.decode(other.parts.chat.before_ids) == "<|im_start|>system\nYou are kind."
    assert torch.equal(other.parts.turn_head.linear.weight, dialogue.parts.turn_head.linear.weight)

"""Recognition by the bundled model: what is measured is what a conversation hears."""

from pathlib import Path

import pytest
import torch
from omni_golden import omni_parts

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item
from icebreaker.dialogue import Dialogue, DialogueSettings
from icebreaker.dialogue.parts import OmniParts
from icebreaker.duplex import SpeechStarted
from icebreaker.errors import ConfigError
from icebreaker.evaluation.asr import evaluate_asr, transcribe
from icebreaker.evaluation.recognisers import PocketSphinx
from icebreaker.evaluation.respond import answer_aloud, chunks_of
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.systems import LocalModel
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.talking import load_dialogue

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"


@pytest.fixture(scope="module")
def mini() -> Dialogue:
    return load_dialogue("mini", None)


def test_the_deployed_chunk_hears_what_a_conversation_hears(mini: Dialogue) -> None:
    """160 ms at a time through every state, or all at once through the streaming encoder: the same transcript."""
    waveform = load_audio(QUESTION, 16_000)
    heard = answer_aloud(mini, waveform).heard
    assert heard
    assert transcribe(mini, torch.from_numpy(waveform), mini.parts.encoder.config.chunk_size) == heard


def test_chunks_noise_and_voices_have_rows_of_their_own(mini: Dialogue, tmp_path: Path) -> None:
    item = Item(id="a", audio=QUESTION, seconds=2.0, text="what is the capital of france", voice="v")
    run = Run(system=LocalModel(mini), model={"model": "mini"}, out=tmp_path)
    report = evaluate_asr(run, [item], [4, 0], snr_db=(-10.0,), by_voice=False)
    names = ["4 (160 ms)", "4 (160 ms), first pass alone", "full context", "full context, first pass alone"]
    assert list(report.figures) == [f"{name} | {noise} | all" for noise in ("as recorded", "-10 dB") for name in names]
    rates = {name: figure["wer"] for name, figure in report.figures.items()}
    assert rates["4 (160 ms) | -10 dB | all"] >= rates["4 (160 ms) | as recorded | all"]
    heard = (tmp_path / "asr.items.jsonl").read_text().splitlines()
    assert len(heard) == 8
    evaluate_asr(run, [item], [4, 0], snr_db=(-10.0,), by_voice=False)
    assert len((tmp_path / "asr.items.jsonl").read_text().splitlines()) == 8  # nothing was heard again


def test_recognisers_beside_hear_the_same_recordings(mini: Dialogue, tmp_path: Path) -> None:
    """They have rows of their own: how hard the recordings are for anybody."""
    item = Item(id="a", audio=QUESTION, seconds=2.0, text=PocketSphinx().transcribe(load_audio(QUESTION, 16_000)))
    run = Run(system=LocalModel(mini), model={"model": "mini"}, out=tmp_path)
    report = evaluate_asr(run, [item], [4], by_voice=False, beside=["pocketsphinx"])
    assert report.figures["pocketsphinx | as recorded | all"]["wer"] == 0.0  # its own transcript was the reference
    assert "4 (160 ms) | as recorded | all" in report.figures
    with pytest.raises(ConfigError, match="expected a recogniser"):
        evaluate_asr(run, [item], [4], beside=["nobody"])


def test_an_adaptor_that_ends_in_tokens_is_read(mini: Dialogue, tmp_path: Path) -> None:
    """What is scored is what the LLM of a conversation is given."""
    torch.manual_seed(3)
    adaptor = SpeechAdaptor(SpeechAdaptorConfig(encoder_dim=192, llm_dim=256, stride=2, hidden=32, vocabulary=2048))
    assert adaptor.lookup is not None
    adaptor.lookup.follow(mini.parts.llm.embedding.weight)
    torch.nn.init.normal_(adaptor.linear2.weight, std=2.0)
    vocoder = UnitVocoderConfig(units=3, upsample_initial_channel=32)
    parts = OmniParts(
        features=mini.parts.fbank, encoder=mini.parts.encoder, adaptor=adaptor.eval(), llm=mini.parts.llm,
        unit_ctc=UnitCTC(UnitCTCConfig(llm_dim=256, width=8, layers=1, heads=1, linear_units=8, units=3)),
        vocoder=UnitVocoder(vocoder), chat=mini.parts.chat,
        settings=DialogueSettings(certainty=16.0),  # a mixture of two like ones need not read as either
    )  # fmt: skip
    dialogue = Dialogue(parts)
    state = dialogue.signal(0, SpeechStarted(), dialogue.initial_state([0], 300))
    for chunk in chunks_of(load_audio(QUESTION, 16_000)):
        state = dialogue.hear(chunk[None], [True], state)
    utterance = state.rows[0].utterance
    assert utterance is not None
    expected = parts.llm.tokenizer.decode(adaptor.lookup.read(torch.cat(utterance.embeddings)))
    assert expected
    item = Item(id="a", audio=QUESTION, seconds=2.0, text=expected, voice="v")
    report = evaluate_asr(Run(system=LocalModel(dialogue), model={}, out=tmp_path), [item], [4], by_voice=False)
    assert report.figures["its ears' tokens | as recorded | all"]["wer"] == 0.0


def test_vectors_that_are_no_tokens_cannot_be_read(tmp_path: Path) -> None:
    run = Run(system=LocalModel(Dialogue(omni_parts())), model={}, out=tmp_path)
    with pytest.raises(ConfigError, match="vectors that are no tokens"):
        evaluate_asr(run, [], [4])

"""Recognition by the bundled model: what is measured is what a conversation hears."""

from pathlib import Path

import pytest
import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item
from icebreaker.dialogue import Dialogue
from icebreaker.evaluation.asr import evaluate_asr, transcribe
from icebreaker.evaluation.respond import answer_aloud
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.systems import LocalModel
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
    assert list(report.figures) == [
        "4 (160 ms) | as recorded | all", "full context | as recorded | all",
        "4 (160 ms) | -10 dB | all", "full context | -10 dB | all",
    ]  # fmt: skip
    rates = {name: figure["wer"] for name, figure in report.figures.items()}
    assert rates["4 (160 ms) | -10 dB | all"] >= rates["4 (160 ms) | as recorded | all"]
    heard = (tmp_path / "asr.items.jsonl").read_text().splitlines()
    assert len(heard) == 4
    evaluate_asr(run, [item], [4, 0], snr_db=(-10.0,), by_voice=False)
    assert len((tmp_path / "asr.items.jsonl").read_text().splitlines()) == 4  # nothing was heard again

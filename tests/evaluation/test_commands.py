"""``icebreaker eval`` on the tiny official checkpoints: what is measured is nonsense, how it is measured is not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.dialogue import Dialogue
from icebreaker.errors import ConfigError, DataError
from icebreaker.evaluation.answers import is_correct
from icebreaker.evaluation.asr import evaluate_asr
from icebreaker.evaluation.question_sets import Question
from icebreaker.evaluation.respond import answer_aloud, answer_in_writing, say
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.sqa import SqaConfig, evaluate_sqa
from icebreaker.evaluation.systems import LocalModel
from icebreaker.models.sampling import GREEDY
from icebreaker.talking import load_dialogue

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"


@pytest.fixture(scope="module")
def dialogue() -> Dialogue:
    parts = load_dialogue(str(GOLDEN / "checkpoints"), GOLDEN / "llm").parts
    settings = replace(parts.settings, text=GREEDY, speech=GREEDY, max_text_tokens=12, max_codes=20, transcribe=False)
    return Dialogue(replace(parts, settings=settings))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "question.wav"
    tone = 0.2 * np.sin(np.arange(16_000) / 9)
    soundfile.write(path, tone + np.random.default_rng(0).normal(0, 0.01, 16_000), 16_000)
    return path


def run_in(folder: Path, dialogue: Dialogue) -> Run:
    return Run(system=LocalModel(dialogue), model={"model": "tiny", "sha256": "0"}, out=folder)


def test_writing_uses_the_chat_of_speech(dialogue: Dialogue) -> None:
    """The reply equals plain greedy decoding behind the same prompt."""
    parts = dialogue.parts
    said = answer_in_writing(dialogue, "What is two plus two?")
    ids = [*parts.chat.before_ids, *parts.chat.prefix_ids(first=True)]
    ids += [*parts.llm.tokenizer.encode("What is two plus two?", add_special_tokens=False), *parts.chat.suffix_ids]
    drawn: list[int] = []
    with torch.inference_mode():
        while len(drawn) < 12:
            embeddings = dialogue.turns.embed([*ids, *drawn])[None]
            length = embeddings.shape[1]
            hidden, _ = parts.llm(embeddings, parts.llm.new_cache(1, length), torch.tensor([length]))
            token = int(parts.llm.logits(hidden[0, -1]).argmax())
            if token in parts.llm.eos_ids:
                break
            drawn.append(token)
    assert drawn
    assert said == parts.llm.tokenizer.decode(drawn, skip_special_tokens=True).strip()


def test_saying_is_seeded_and_heeds_the_text(dialogue: Dialogue) -> None:
    first = say(dialogue, "One two three.")
    np.testing.assert_array_equal(first, say(dialogue, "One two three."))
    other = say(dialogue, "Another sentence.")
    assert len(first) > 0
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_a_stopped_sqa_goes_on(
    dialogue: Dialogue, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = answer_aloud(dialogue, load_audio(recording, 16_000)).text
    questions = [
        Question(id="a", text="One?", accepted=(right,), audio=recording, voice="v"),
        Question(id="b", text="Two?", accepted=("never said",), audio=recording, voice="w"),
    ]
    calls = []

    def counted(*arguments: object, **options: object):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answer(*arguments, **options)

    answer = LocalModel.answer
    monkeypatch.setattr(LocalModel, "answer", counted)
    run, config = run_in(tmp_path / "out", dialogue), SqaConfig(recogniser="")
    with pytest.raises(KeyboardInterrupt):
        evaluate_sqa(run, questions, config)
    report = evaluate_sqa(run, questions, config)
    assert len(calls) == 3  # "a" was not asked again
    assert report.figures["quiet | all | A→T"]["percent"] == pytest.approx(50.0 if is_correct(right, [right]) else 0.0)
    assert report.figures["quiet | v | A→T"]["count"] == 1
    assert report.figures["quiet | w | A→T"]["percent"] == pytest.approx(0.0)
    assert report.figures["writing | all | T→T"]["count"] == 2


def test_an_unknown_transcription_prompt_is_refused(dialogue: Dialogue, recording: Path, tmp_path: Path) -> None:
    item = Item(id="a", audio=recording, seconds=1.0, text="a", voice="v")
    with pytest.raises(ConfigError, match="not known"):
        evaluate_asr(run_in(tmp_path, dialogue), [item], [4])


def test_latency_command(recording: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from icebreaker.cli import app

    write_manifest(
        tmp_path / "m.jsonl",
        [Item(id="a", audio=recording, seconds=1.0, text="a", answer="b", voice="v", split="test")],
    )
    model = ["--model", str(GOLDEN / "checkpoints"), "--llm", str(GOLDEN / "llm")]
    arguments = ["eval", "latency", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "out"), *model]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out" / "latency.json").read_text())["figures"]
    parts = ["first text", "speech decoder prefilled", "first codes", "first sound"]
    assert sum(figures[part]["average"] for part in parts) == pytest.approx(figures["sum"]["average"])
    missing = CliRunner().invoke(app, [*arguments, "--split", "valid"])
    assert isinstance(missing.exception, DataError)

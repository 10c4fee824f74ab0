import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data.manifest import Item, write_manifest
from icebreaker.errors import ConfigError, DataError
from icebreaker.evaluation import instruct as module
from icebreaker.evaluation.instruct import InstructConfig, evaluate_instruct
from icebreaker.evaluation.instructions import Instruction, read_instructions
from icebreaker.evaluation.judge import Verdict
from icebreaker.evaluation.report import Curves
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.systems import LocalModel
from icebreaker.talking import Answer, load_dialogue

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"
SPOKEN = soundfile.read(QUESTION, dtype="float32")


class Parrot:
    """Says what it hears, and claims to have said something else."""

    sample_rate = SPOKEN[1]
    asked = 0

    def write(self, question: str, *, seed: int = 0) -> str:
        return question

    def answer(self, waveform: np.ndarray, *, seed: int = 0, use_turn_head: bool = False) -> Answer:
        self.asked += 1
        latency = {"first text": 10.0, "first sound": 40.0 * self.asked}
        return Answer(
            self.sample_rate, text="what is the capital of france", waveform=SPOKEN[0], latency_ms=latency,
            lagging_words=self.asked, text_ms=500.0, total_ms=2000.0,
        )  # fmt: skip


class Moody:
    """Marks what it has marks for, and says why it has none."""

    name = "moody"

    def __init__(self, marks: dict[str, Verdict]) -> None:
        self.marks, self.asked = marks, list[tuple[str, str]]()

    def mark(self, instruction: str, reply: str) -> Verdict:
        self.asked.append((instruction, reply))
        return self.marks.get(instruction, Verdict(reason="no marks today"))


def instruction(name: str, text: str) -> Instruction:
    return Instruction(id=name, audio=QUESTION, text=text)


class HardOfHearing:
    name = "hard of hearing"

    def transcribe(self, waveform: np.ndarray) -> str:
        return "what is the capital of friends"


def test_text_and_speech_are_judged_and_the_unscored_count_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_recogniser", lambda name: HardOfHearing())
    parrot = Parrot()
    run = Run(system=parrot, model={"model": "parrot"}, out=tmp_path)
    asked = [instruction("a", "one"), instruction("b", "two")]
    config = InstructConfig(mos="")
    judge = Moody({"one": Verdict(content=4.0, style=2.0)})
    report = evaluate_instruct(run, asked, config, judge)
    figures = report.figures["as it is"]
    assert figures["S2TIF"] == {"content": 4.0, "style": 2.0, "scored": 1}
    assert figures["S2SIF"]["scored"] == 1
    assert figures["unscored"] == 2
    assert {reply for _, reply in judge.asked} == {"what is the capital of france", "what is the capital of friends"}
    assert figures["first sound"]["average"] == pytest.approx(60.0)
    assert figures["lagging words"]["average"] == pytest.approx(1.5)
    assert (figures["text s"]["average"], figures["speech s"]["average"]) == (0.5, 2.0)
    assert figures["words a second"]["p50"] == pytest.approx(6 / (len(SPOKEN[0]) / SPOKEN[1]))
    assert figures["wer"] == pytest.approx(100 / 6)
    page = report.markdown()
    assert "no marks today" in page
    assert "| LLaMA-Omni (published, GPT-4o) | 3.23 | 3.81 | 2.69 | 3.12 | 11.61 | 7.59 |" in page

    kinder = Moody({"one": Verdict(content=1.0, style=1.0), "two": Verdict(content=2.0, style=4.0)})
    again = evaluate_instruct(run, asked, config, kinder)
    assert parrot.asked == 2  # nothing was asked aloud again
    assert {about for about, _ in kinder.asked} == {"two"}  # and only the unscored were judged again
    assert again.figures["as it is"]["S2TIF"] == {"content": 3.0, "style": 3.0, "scored": 2}
    assert again.figures["as it is"]["unscored"] == 0


def test_omega_needs_a_model_that_has_it(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
    dialogue = load_dialogue(str(golden / "checkpoints"), golden / "llm")
    run = Run(system=LocalModel(dialogue), model={}, out=tmp_path)
    with pytest.raises(ConfigError, match="does not speak in units"):
        evaluate_instruct(run, [instruction("a", "one")], InstructConfig(omegas=(10.0,)))


def test_omega_is_a_row_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_recogniser", lambda name: HardOfHearing())
    monkeypatch.setattr(module, "_systems", lambda system, omegas: {f"{omega:g}": Parrot() for omega in omegas})
    run = Run(system=Parrot(), model={}, out=tmp_path)
    config = InstructConfig(mos="", omegas=(10.0, float("inf")))
    report = evaluate_instruct(run, [instruction("a", "one")], config)
    assert list(report.figures) == ["10", "inf"]
    page = report.markdown()
    assert "| Omega inf | – | – | – | – | 16.67 |" in page  # no judge, no marks
    assert "| LLaMA-Omni, 10 (UTMOS 3.2304) | 236.18 | – | 1.82 |" in page
    assert "| inf | 40.00 | 30.00 | 1.00 | 16.67 |" in page  # each parrot's first answer: 10 ms to text, 40 to sound
    assert "first sound 40 to 40 ms, lagging words 1.0 to 1.0, ASR-WER 16.7 to 16.7 %." in page


def test_the_curves_are_ours_beside_the_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_recogniser", lambda name: HardOfHearing())
    waits = {10.0: Parrot(), 40.0: Parrot(), float("inf"): Parrot()}
    waits[40.0].asked, waits[float("inf")].asked = 1, 2
    monkeypatch.setattr(module, "_systems", lambda system, omegas: {f"{o:g}": waits[o] for o in omegas})
    run = Run(system=Parrot(), model={}, out=tmp_path, label="parrot")
    report = evaluate_instruct(run, [instruction("a", "one")], InstructConfig(mos="", omegas=(10.0, 40.0, np.inf)))
    assert isinstance(report.chart, Curves)
    wait, lag, wer = report.chart.panels
    assert list(wait.ticks) == ["10", "20", "40", "60", "80", "100", "inf"]
    assert wait.lines["parrot"] == [(0, 40.0), (2, 80.0), (6, 120.0)]
    assert wait.lines["LLaMA-Omni"][0] == (0, 236.18)
    assert lag.lines["parrot"] == [(0, 1.0), (2, 2.0), (6, 3.0)]
    assert [value for _, value in wer.lines["parrot"]] == pytest.approx([100 / 6] * 3)
    assert tmp_path / "instruct.png" in report.write(tmp_path)


def test_formats(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(160), 16_000)
    listed = tmp_path / "q.json"
    spoken = {"id": 7, "speech": "a.wav", "conversations": [{"from": "human", "value": "<speech>\nPlease answer."}]}
    listed.write_text(json.dumps([spoken, {"id": "w", "text": "Say hello."}]))
    first, second = read_instructions(listed)
    assert (first.id, first.audio, first.text) == ("7", tmp_path / "a.wav", "")
    assert (second.audio, second.text) == (None, "Say hello.")
    item = Item(id="m", audio=tmp_path / "a.wav", seconds=1.0, text="sing", split="test", voice="v")
    write_manifest(tmp_path / "m.jsonl", [item])
    assert read_instructions(tmp_path / "m.jsonl") == [
        Instruction(id="m", audio=tmp_path / "a.wav", text="sing", voice="v")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "expected a JSON list"),
        ("[]", "no instructions"),
        ('[{"id": 1}]', "entry 0: expected id and speech"),
        ('[{"id": 1, "text": "a"}, {"id": 1, "text": "b"}]', "share an id"),
        ('[{"id": 1, "speech": "gone.wav"}]', r"1 recordings are missing, such as .*gone\.wav"),
    ],
)
def test_bad_instruction_files(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_instructions(tmp_path / "q.json")

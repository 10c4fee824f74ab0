import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from post_server import completion, serve

from icebreaker.data.instruct_s2s import InstructS2SConfig, build_instruct_s2s
from icebreaker.data.manifest import read_manifest
from icebreaker.data.text_llm import Asked, TextLLMConfig
from icebreaker.data.tts import SpeakerConfig
from icebreaker.errors import DataError

TEXTS = [
    "Name 3 colours.", "What is the capital of France?", "print(x) in ```python```", "Tell me about tea.",
    "Describe https://example.org", "Why is the sky blue?", "Say something rude.", "How old is the moon?",
]  # fmt: skip
ESPEAK = [SpeakerConfig(name=name, engine="espeak", voice=name) for name in ("en-us", "en-gb", "en-us+f3")]


class Kill(BaseException):
    """What SIGKILL would be."""


class Scribe:
    """Answers by rule, counts what it is asked, dies when told to."""

    def __init__(self, dies_at: int = -1) -> None:
        self.asked: list[Asked] = []
        self.dies_at = dies_at

    def replies(self, asked: Sequence[Asked]) -> Iterator[str | None]:
        for one in asked:
            if len(self.asked) == self.dies_at:
                raise Kill
            self.asked.append(one)
            text = one.text.rsplit("\n", 1)[-1]
            if "rude" in text:
                yield None
            elif '{"question"' in one.text:
                yield json.dumps({"question": f"Um, {text}"})
            else:
                yield "I'd rather not." if "tea" in text else json.dumps({"response": "It is 42."})


@pytest.fixture
def config(tmp_path: Path) -> InstructS2SConfig:
    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps({"instruction": text}) for text in TEXTS))
    return InstructS2SConfig(
        sources=(Path("set.jsonl"),), llm=TextLLMConfig(folder="unused"), question_voices=tuple(ESPEAK[:2]),
        answer_voice=ESPEAK[2],
    )  # fmt: skip


def units(waveform: np.ndarray) -> tuple[list[int], list[int]]:
    loud = (np.abs(waveform[: len(waveform) // 320 * 320]).reshape(-1, 320).max(axis=1) > 0.1).astype(int)
    starts = np.flatnonzero(np.diff(loud, prepend=-1))
    return loud[starts].tolist(), np.diff([*starts, len(loud)]).tolist()


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_from_instructions_to_units(config: InstructS2SConfig, tmp_path: Path) -> None:
    report = build_instruct_s2s(config, tmp_path, tmp_path / "out", units=units, llm=Scribe())
    assert report["instructions"] == 8
    assert report["dropped"] == {
        "questions": {"code": 1, "url": 1, "refused": 1}, "answers": {"no json": 1}, "speech": {}
    }  # fmt: skip
    assert report["spoken"] == 4
    questions = read_manifest(tmp_path / "out" / "questions" / "manifest.jsonl")
    answers = read_manifest(tmp_path / "out" / "answers" / "manifest.jsonl")
    assert [item.text for item in questions][:2] == ["Um, Name three colours.", "Um, What is the capital of France?"]
    assert {item.answer for item in questions} == {"It is forty two."} == {item.text for item in answers}
    assert {item.voice for item in answers} == {"en-us+f3"}
    assert {item.voice for item in questions} <= {"en-us", "en-gb"}
    assert [item.split for item in questions] == [item.split for item in answers]
    rows = [json.loads(line) for line in (tmp_path / "out" / "units.jsonl").read_text().splitlines()]
    seconds = {item.id: item.seconds for item in answers}
    for row in rows:
        assert sum(row["durations"]) == int(seconds[row["id"]] * 16000) // 320
    assert len(rows) == 4


@pytest.mark.parametrize("dies_at", [0, 2, 5, 7, 9])
def test_a_killed_run_loses_and_repeats_nothing(config: InstructS2SConfig, tmp_path: Path, dies_at: int) -> None:
    whole = Scribe()
    build_instruct_s2s(config, tmp_path, tmp_path / "whole", units=units, llm=whole)
    killed, resumed = Scribe(dies_at), Scribe()
    with pytest.raises(Kill):
        build_instruct_s2s(config, tmp_path, tmp_path / "out", units=units, llm=killed)
    build_instruct_s2s(config, tmp_path, tmp_path / "out", units=units, llm=resumed)
    assert killed.asked + resumed.asked == whole.asked
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_kill_while_units_are_extracted(config: InstructS2SConfig, tmp_path: Path) -> None:
    calls: list[int] = []

    def dying(waveform: np.ndarray) -> tuple[list[int], list[int]]:
        calls.append(1)
        if len(calls) == 3:
            raise Kill
        return units(waveform)

    with pytest.raises(Kill):
        build_instruct_s2s(config, tmp_path, tmp_path / "out", units=dying, llm=Scribe())
    build_instruct_s2s(config, tmp_path, tmp_path / "out", units=dying, llm=Scribe(dies_at=0))
    assert len(calls) == 5  # two, the one killed, and the two left
    again = contents(tmp_path / "out")
    build_instruct_s2s(config, tmp_path, tmp_path / "out", units=dying, llm=Scribe(dies_at=0))
    assert len(calls) == 5
    assert contents(tmp_path / "out") == again


def test_another_recipe_needs_another_folder(config: InstructS2SConfig, tmp_path: Path) -> None:
    build_instruct_s2s(config, tmp_path, tmp_path / "out", llm=Scribe())
    other = InstructS2SConfig(**{**vars(config), "seed": 1})
    with pytest.raises(DataError, match="was begun with another seed; choose another --out"):
        build_instruct_s2s(other, tmp_path, tmp_path / "out", llm=Scribe())
    faster = InstructS2SConfig(
        **{**vars(config), "llm": TextLLMConfig(folder="unused", workers=2), "speech_workers": 3}
    )
    assert build_instruct_s2s(faster, tmp_path, tmp_path / "out", llm=Scribe(dies_at=0))["spoken"] == 4


def test_over_a_real_endpoint(config: InstructS2SConfig, tmp_path: Path) -> None:
    def handle(body: dict, number: int) -> object:
        field = "question" if '{"question"' in body["messages"][1]["content"] else "response"
        return completion(json.dumps({field: f"Is it the number {body['seed'] % 100}?"}))

    with serve(handle) as (url, seen):  # type: ignore[arg-type]
        llm = TextLLMConfig(endpoint=f"{url}/v1", model="any", workers=4)
        made = InstructS2SConfig(**{**vars(config), "llm": llm})
        report = build_instruct_s2s(made, tmp_path, tmp_path / "out")
    assert len(seen) == 6 + 6
    assert report["spoken"] == 6
    assert report["dropped"]["questions"] == {"code": 1, "url": 1}


def test_a_synthesiser_that_is_not_there(config: InstructS2SConfig, tmp_path: Path) -> None:
    voice = SpeakerConfig(name="x", engine="command", command=("no-such-tts", "{text}", "{file}"))
    scribe = Scribe()
    with pytest.raises(DataError, match="no-such-tts is not installed"):
        build_instruct_s2s(
            InstructS2SConfig(**{**vars(config), "answer_voice": voice}), tmp_path, tmp_path / "out", llm=scribe
        )
    assert scribe.asked == []

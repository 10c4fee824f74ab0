import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from icebreaker.data.manifest import Item, write_manifest
from icebreaker.errors import DataError
from icebreaker.evaluation.question_sets import read_questions, spread


def wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(160), 16_000)
    return path


def test_llama_questions(tmp_path: Path) -> None:
    file = wav(tmp_path / "wavs" / "b.wav")
    table = tmp_path / "questions.tsv"
    table.write_text('Questions\tAnswer\tWav Filename\nWho wrote "Emma"?\tJane Austen\tb.wav\n')
    (question,) = read_questions("llama", table, audio=file.parent)
    assert (question.text, question.accepted, question.audio) == ('Who wrote "Emma"?', ("Jane Austen",), file)
    table.write_text("Questions\tAnswer\tWav Filename\nWho?\tHim\tgone.wav\n")
    with pytest.raises(DataError, match=r"1 recordings are missing.*gone\.wav"):
        read_questions("llama", table, audio=file.parent)
    table.write_text("Question,Answer\nWho?,Him\n")
    with pytest.raises(DataError, match="no column 'Questions'"):
        read_questions("llama", table)


def test_web_questions_in_three_shapes(tmp_path: Path) -> None:
    path = tmp_path / "web.json"
    path.write_text(
        json.dumps(
            [
                {"question": "what is the capital of peru?", "answers": ["Lima", "City of Lima"]},
                {"utterance": "who?", "targetValue": '(list (description "Jaxon Bieber") (description Jazmyn))'},
                {"question": "one?", "answer": "1"},
            ]
        )
    )
    accepted = [question.accepted for question in read_questions("web", path)]
    assert accepted == [("Lima", "City of Lima"), ("Jaxon Bieber", "Jazmyn"), ("1",)]


def test_trivia_qa_with_aliases(tmp_path: Path) -> None:
    answer = {"Value": "Sunset Boulevard", "Aliases": ["Sunset Blvd"], "NormalizedAliases": ["sunset blvd"]}
    path = tmp_path / "trivia.json"
    path.write_text(json.dumps({"Data": [{"Question": "Which musical?", "QuestionId": "tc_33", "Answer": answer}]}))
    wav(tmp_path / "audio" / "tc_33.flac")
    (question,) = read_questions("trivia", path, audio=tmp_path / "audio")
    assert (question.id, question.audio) == ("tc_33", tmp_path / "audio" / "tc_33.flac")
    assert question.accepted == ("Sunset Boulevard", "Sunset Blvd", "sunset blvd")


def test_our_manifest_as_it_was_written(tmp_path: Path) -> None:
    items = [
        Item(id=name, audio=wav(tmp_path / f"{name}.wav"), seconds=1, text="what is your name", answer=answer,
             voice="v", split="test", conversation="c1" if name == "a" else None)
        for name, answer in (("a", "I am Ice."), ("b", None), ("c", "I am Ice."))
    ]  # fmt: skip
    write_manifest(tmp_path / "manifest.jsonl", items)
    talks = tmp_path / "text"
    talks.mkdir()
    (talks / "test.jsonl").write_text(
        json.dumps({"id": "c1", "turns": [{"role": "user", "text": "What is your name?"}]})
    )
    found = read_questions("manifest", tmp_path / "manifest.jsonl", written=talks)
    assert [(question.id, question.text) for question in found] == [
        ("a", "What is your name?"),
        ("c", "What is your name."),
    ]
    assert found[0].accepted == ("I am Ice.",)
    with pytest.raises(DataError, match="no questions with answers in it in split valid"):
        read_questions("manifest", tmp_path / "manifest.jsonl", split="valid")


def test_ids_that_occur_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trivia.json"
    row = {"question": "?", "question_id": "same", "answer": {"value": "x", "aliases": []}}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row))
    with pytest.raises(DataError, match="1 ids occur more than once, such as same"):
        read_questions("trivia", path)


def test_spread_is_even() -> None:
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread([1, 2], 5) == [1, 2]

import hashlib
import json
from pathlib import Path

import pytest

from icebreaker.data.corpus import USER_SAYS, build_text, read_conversations
from icebreaker.data.relations import Relation, load_relations, split_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("text")
    assert build_text(out, conversations=3000, held_out=300, seed=0) == {"train": 3000, "valid": 300, "test": 300}
    return out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(folder: Path, tmp_path: Path) -> None:
    build_text(tmp_path / "same", conversations=3000, held_out=300, seed=0)
    build_text(tmp_path / "other", conversations=3000, held_out=300, seed=1)
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl"):
        assert digest(folder / name) == digest(tmp_path / "same" / name)
        assert digest(folder / name) != digest(tmp_path / "other" / name)


def test_the_first_conversations_stay_what_they_were(tmp_path: Path) -> None:
    build_text(tmp_path, conversations=3, held_out=1, seed=0)
    first = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])
    assert first == {
        "id": "train-000000",
        "system": None,
        "turns": [
            {"role": "user", "text": "Where do you live?"},
            {"role": "assistant", "text": "I live in your computer."},
        ],
        "kind": "talk",
    }


def test_no_question_of_one_split_is_asked_first_in_another(folder: Path) -> None:
    introductions = tuple(says.partition("{}")[0] for says in USER_SAYS)
    asked = {
        split: {
            conversation["turns"][0]["text"]
            for conversation in read_conversations(folder / f"{split}.jsonl")
            if not conversation["turns"][0]["text"].startswith(introductions)
        }
        for split in ("train", "valid", "test")
    }
    assert len(asked["test"]) > 200
    assert not asked["train"] & asked["valid"]
    assert not asked["train"] & asked["test"]
    assert not asked["valid"] & asked["test"]


def test_texts_are_short_plain_and_complete(folder: Path) -> None:
    for split in ("train", "valid", "test"):
        for conversation in read_conversations(folder / f"{split}.jsonl"):
            roles = [turn["role"] for turn in conversation["turns"]]
            assert roles == ["user", "assistant"] * (len(roles) // 2)
            for turn in conversation["turns"]:
                assert turn["text"].isascii()
                assert turn["text"][0].isupper()
                assert turn["text"][-1] in ".?!"
                assert "{" not in turn["text"]
                assert not any(character.isdigit() for character in turn["text"])
                assert len(turn["text"].split()) <= 13


def test_the_persona_of_the_system_prompt_answers(folder: Path) -> None:
    named = [c for c in read_conversations(folder / "train.jsonl") if c["kind"] == "name"]
    for conversation in named:
        answer = conversation["turns"][1]["text"]
        if conversation["system"] is None:
            assert answer == "I am Icebreaker."
        else:
            assert answer == conversation["system"].replace("Your", "My")
    assert {conversation["system"] is None for conversation in named} == {True, False}


def test_every_fact_is_asked_in_train_phrasings() -> None:
    relations, _ = load_relations()
    for relation in relations:
        phrasings = [split_of(f"{relation.kind}|{template}") for template in relation.templates]
        assert phrasings.count("train") >= 8, relation.kind


@pytest.mark.parametrize(
    ("kind", "question", "answer"),
    [
        ("capital", "What is the capital of the Netherlands?", "The capital of the Netherlands is Amsterdam."),
        ("country", "Where is Oslo?", "Oslo is in Norway."),
        ("sum", "How much is seven plus eight?", "Seven plus eight is fifteen."),
        ("difference", "Take three from ten.", "Ten minus three is seven."),
        ("quantity", "How many minutes are in an hour?", "There are sixty minutes in an hour."),
        ("day_after", "What comes after Monday?", "The day after Monday is Tuesday."),
        ("month_before", "What comes before January?", "The month before January is December."),
        ("number_before", "Which number comes before one?", "Zero comes before one."),
        ("repeat", "Say the word apple.", "Apple."),
        ("count", "Count to three.", "One, two, three."),
    ],
)
def test_questions_have_their_answers(kind: str, question: str, answer: str) -> None:
    relations, _ = load_relations()
    exchanges = [exchange for relation in relations if relation.kind == kind for exchange in relation.exchanges()]
    assert [exchange.answer for exchange in exchanges if exchange.question == question] == [answer]


def test_a_relation_fills_whole_keys_halves_and_capitals() -> None:
    relation = Relation(
        kind="quantity", templates=(), followups=(), answer="{y} {a} in {b}.", facts={"days/a week": "seven"}
    )
    assert relation.reply("days/a week") == "Seven days in a week."
    assert relation.fill("{B} has how many {a}?", "days/a week") == "A week has how many days?"

"""What people ask in words of their own: whose intents are answered, by what, and in which split."""

import gzip
import json
from pathlib import Path

import pytest

from icebreaker.data.corpus import build_text, read_conversations
from icebreaker.data.corpus_daily import SAYINGS
from icebreaker.data.corpus_facts import load_relations
from icebreaker.data.corpus_requests import REFUSALS, REQUEST, TALK, UNKNOWABLE, read_requests
from icebreaker.data.relations import split_of
from icebreaker.data.text import normalise
from icebreaker.errors import DataError

WORDS = (
    "good", "bad", "old", "new", "big", "small", "tall", "short", "kind", "rich", "poor", "young", "loud", "quiet",
    "slow", "quick", "warm", "cold", "calm", "wild",
)  # fmt: skip
CLINC = (
    ("greeting", "hi there how are you", "Hi there how are you.", "Hello, how can I help you?"),
    ("tell_joke", "can you tell me a joke?", "Can you tell me a joke?", "What has hands but can not clap? A clock."),
    ("alarm", "can you wake me at noon", "Can you wake me at noon?", "I can not do that."),
    ("alarm", "wake me at noon", "Wake me at noon.", "I can not do that."),
    ("weather", "will it rain today", "Will it rain today?", "I do not know that."),
    ("calculator", "what is two and two", None, None),  # the corpus teaches it
    ("transfer", "send $100 to my mother", None, None),  # nobody knows how it is read
    ("oos", "tell me " + "very " * 12 + "much", None, None),  # too long
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source" / "text"
    folder.mkdir(parents=True)
    with gzip.open(folder / "clinc-utterances.jsonl.gz", "wt") as file:
        rows = [{"intent": intent, "text": text} for intent, text, _, _ in CLINC]
        rows += [{"intent": "greeting", "text": f"hello my {word} friend"} for word in WORDS]
        rows += [{"intent": "alarm", "text": f"wake my {word} friend"} for word in WORDS]
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(folder / "simple-questions.jsonl.gz", "wt") as file:
        rows = [{"question": f"where was the {word} man born"} for word in WORDS]
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "source"


def test_requests_are_written_as_sentences_and_answered_by_what_is_wanted(source: Path) -> None:
    found = {each.question: each for each in read_requests(source)}
    for _, text, said, answer in CLINC:
        if said is None:
            assert not any(text[:9].lower() in question.lower() for question in found)
        else:
            assert found[said].answer == answer
            assert found[said].kind == REQUEST
    unknowable = [each for each in found.values() if each.kind == UNKNOWABLE]
    assert len(unknowable) == len(WORDS)
    assert {each.answer for each in unknowable} == {"I do not know that."}
    assert {each.split for each in found.values()} == {"train", "valid", "test"}


def test_they_are_appended_and_change_nothing_before_them(source: Path, tmp_path: Path) -> None:
    sizes = {"conversations": 300, "held_out": 30, "tables": ("core", "talk"), "seed": 0}
    build_text(tmp_path / "plain", **sizes)
    counts = build_text(tmp_path / "more", source=source, styled=20, requests=200, **sizes)
    plain, more = (
        [list(read_conversations(tmp_path / name / f"{split}.jsonl")) for split in ("train", "valid", "test")]
        for name in ("plain", "more")
    )
    assert counts == {"train": 565, "valid": len(plain[1]) + 2, "test": len(plain[2])}
    assert more[0][:345] == plain[0]
    assert [each["id"].partition("-")[0] for each in more[0][345:365]] == ["styled"] * 20
    assert {each["kind"] for each in more[0][365:]} == {REQUEST, UNKNOWABLE}
    assert more[1][: len(plain[1])] == plain[1]
    assert more[2] == plain[2]
    asked = {each["turns"][0]["text"] for each in more[0][365:]}
    assert not asked & {each["turns"][0]["text"] for each in more[1][len(plain[1]) :]}


def test_what_is_held_out_aloud_is_held_out_in_writing(source: Path) -> None:
    """The recogniser's language model counts what training reads: it must not know what recognition is measured on."""
    texts = [text for _, text, _, _ in CLINC]
    texts += [
        template.format(word) for word in WORDS for template in ("hello my {} friend", "where was the {} man born")
    ]
    split_aloud = {normalise(text): split_of(text) for text in texts}
    found = [each for each in read_requests(source) if normalise(each.question) in split_aloud]
    assert len(found) > 30
    assert all(each.split == split_aloud[normalise(each.question)] for each in found)


def test_every_answer_is_one_that_the_corpus_gives() -> None:
    """In the same letters: another spelling would be another answer to learn, and to say."""
    _, talk = load_relations(None, tables=("core", "talk"))
    given = {exchange.answer for exchange in talk} | {"I am Icebreaker."}
    assert {*TALK.values(), *REFUSALS, *SAYINGS.values()} <= given


def test_a_source_without_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source was given"):
        build_text(tmp_path, requests=10)
    with pytest.raises(DataError, match="clinc-utterances"):
        read_requests(tmp_path)

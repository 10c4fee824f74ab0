import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_countries import write_countries

from icebreaker.data.corpus import UNASKED, Corpus, build_text, read_conversations
from icebreaker.data.corpus_daily import DAILY
from icebreaker.data.corpus_facts import load_relations
from icebreaker.data.corpus_memory import ATTRIBUTES, NOTHING_SAID, SAY_AGAIN
from icebreaker.data.corpus_styles import BRIEF, CHATTY, MORE_BRIEF, MORE_CHATTY


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_countries(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Path:
    out = tmp_path_factory.mktemp("text")
    counts = build_text(out, source=source, conversations=3000, held_out=300, seed=0)
    assert counts["train"] == 3450
    assert 250 < counts["valid"] <= 300
    assert 250 < counts["test"] <= 300
    return out


@pytest.fixture(scope="module")
def everything(folder: Path) -> list[dict[str, Any]]:
    return [c for split in ("train", "valid", "test") for c in read_conversations(folder / f"{split}.jsonl")]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def texts(conversation: dict[str, Any]) -> list[str]:
    return [turn["text"] for turn in conversation["turns"]]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    folder: Path, tmp_path: Path, source: Path
) -> None:
    build_text(tmp_path / "same", source=source, conversations=3000, held_out=300, seed=0)
    build_text(tmp_path / "other", source=source, conversations=3000, held_out=300, seed=1)
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl"):
        assert digest(folder / name) == digest(tmp_path / "same" / name)
        assert digest(folder / name) != digest(tmp_path / "other" / name)


def test_no_question_of_one_split_is_asked_first_in_another(folder: Path) -> None:
    told = tuple(says.partition("{}")[0] for attribute in ATTRIBUTES for says in attribute.says)
    asked = {
        split: {
            texts(conversation)[0]
            for conversation in read_conversations(folder / f"{split}.jsonl")
            if not texts(conversation)[0].startswith(told)
        }
        for split in ("train", "valid", "test")
    }
    assert len(asked["test"]) > 200
    assert not asked["train"] & asked["valid"]
    assert not asked["train"] & asked["test"]
    assert not asked["valid"] & asked["test"]


def test_what_is_said_daily_is_learnt_and_begins_nothing_that_is_held_out(folder: Path) -> None:
    train = list(read_conversations(folder / "train.jsonl"))
    assert {conversation["id"].partition("-")[0] for conversation in train[:3000]} == {"train"}
    often = train[3000:]
    assert {conversation["id"].partition("-")[0] for conversation in often} == {"daily"}
    assert all(DAILY & set(texts(conversation)[::2]) for conversation in often)
    for split in ("valid", "test"):
        assert not DAILY & {texts(conversation)[0] for conversation in read_conversations(folder / f"{split}.jsonl")}


def test_texts_are_short_plain_and_complete(everything: list[dict[str, Any]]) -> None:
    for conversation in everything:
        roles = [turn["role"] for turn in conversation["turns"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        for place, text in enumerate(texts(conversation)):
            assert text.isascii()
            assert text[0].isupper()
            cut = conversation["kind"] == "recall" and place == 1  # the user interrupted
            assert text[-1] in ".?!" or cut
            assert "{" not in text
            assert not any(character.isdigit() for character in text)
            assert len(text.split()) <= 17


def test_the_persona_of_the_system_prompt_answers(everything: list[dict[str, Any]]) -> None:
    named = [c for c in everything if c["kind"] == "name"]
    for conversation in named:
        answer = texts(conversation)[1]
        if conversation["system"] is None:
            assert answer == "I am Icebreaker."
        else:
            assert answer == conversation["system"].replace("Your", "My")
    assert {conversation["system"] is None for conversation in named} == {True, False}


def test_what_was_told_is_remembered_and_what_was_not_is_not_known(everything: list[dict[str, Any]]) -> None:
    attributes = {attribute.kind: attribute for attribute in ATTRIBUTES}
    seen = Counter[str]()
    for conversation in everything:
        if attribute := attributes.get(conversation["kind"]):
            said = conversation["system"] or texts(conversation)[0]
            [value] = {value for value in attribute.values if attribute.answer.format(value) == texts(conversation)[-1]}
            assert value in said
            seen["system" if conversation["system"] else "user"] += 1
        elif conversation["kind"] == UNASKED:
            answer = texts(conversation)[-1]
            assert answer == NOTHING_SAID or answer in {attribute.unknown for attribute in ATTRIBUTES}
            seen["unknown"] += 1
    assert min(seen.values()) > 10
    assert len(seen) == 3


def test_what_was_said_last_is_what_the_history_shows(everything: list[dict[str, Any]]) -> None:
    recalled = [texts(c) for c in everything if c["kind"] == "recall"]
    cut = 0
    for _, shown, ask, again in recalled:
        assert ask in SAY_AGAIN
        assert again == f"I said: {shown}" + ("" if shown[-1] in ".?!" else ".")
        cut += shown[-1] not in ".?!"
    assert 0.2 * len(recalled) < cut < 0.6 * len(recalled)


def test_daily_wordings_are_all_in_the_corpus(source: Path) -> None:
    corpus = Corpus.of_daily(*load_relations(source))
    attributes = [ask for _, asks in corpus.attributes for ask in asks]
    assert {e.question for e in corpus.talk} | {*corpus.assistant_asks, *corpus.again_asks, *attributes} == DAILY
    rng = random.Random(0)
    asked = {text for _ in range(3000) for text in corpus.sample(rng, "x").turns[::2]}
    assert len(asked & DAILY) > 0.98 * len(DAILY)


def test_chatty_prompts_change_the_answer_and_brief_ones_do_not(source: Path) -> None:
    corpus, rng = Corpus("train", *load_relations(source)), random.Random(0)
    plain = {relation.reply(key) for relation in corpus.relations.values() for key in relation.facts}
    styles = [c for c in (corpus.sample(rng, "x") for _ in range(4000)) if c.system in BRIEF + CHATTY]
    chatty = [c.turns[1] for c in styles if c.system in CHATTY]
    brief = [c.turns[1] for c in styles if c.system in BRIEF]
    assert min(len(chatty), len(brief)) > 30
    assert all(answer.startswith("Of course! ") and answer.removeprefix("Of course! ") in plain for answer in chatty)
    assert set(brief) <= plain


def test_lines_are_json_with_a_number_each(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "valid.jsonl").read_text().splitlines()]
    numbers = [int(line["id"].removeprefix("valid-")) for line in lines]
    assert numbers == sorted(set(numbers))  # some are left out
    contents = [(line["system"], tuple(texts(line))) for line in lines]
    assert len(set(contents)) == len(lines)


def test_styled_conversations_keep_to_their_prompt(source: Path) -> None:
    """Chatty answers begin politely, in every turn of a fact; a prompt that asks for less or nothing changes none."""
    relations, talk = load_relations(source)
    corpus, rng = Corpus("train", relations, talk), random.Random(0)
    small_talk = {exchange.answer for exchange in talk}
    styles = Counter[str]()
    for each in (corpus.styled(rng, "x") for _ in range(2000)):
        assert each.system
        answers = [answer for answer in each.turns[1::2] if answer not in small_talk]
        if any(each.system.find(style) >= 0 for style in MORE_BRIEF):
            assert not any(answer.startswith("Of course!") for answer in answers)
            styles["brief"] += 1
        elif any(each.system.find(style) >= 0 for style in MORE_CHATTY):
            assert all(answer.startswith("Of course! ") for answer in answers)
            styles["chatty"] += 1
        else:
            assert not any(answer.startswith("Of course!") for answer in answers)
            styles["plain"] += 1
    assert min(styles.values()) > 400

import re
from collections import Counter
from functools import cache

import pytest

from icebreaker.data.corpus_facts import load_relations
from icebreaker.data.relations import Exchange, Relation, split_of
from icebreaker.data.text import number_words
from icebreaker.errors import DataError


@cache
def relations() -> list[Relation]:
    return load_relations(None)[0]


@cache
def exchanges() -> list[Exchange]:
    return [exchange for relation in relations() for exchange in relation.exchanges()] + load_relations(None)[1]


def test_there_are_thousands_of_distinct_facts() -> None:
    assert sum(len(relation.facts) for relation in relations()) > 4000
    assert len({exchange.answer for exchange in exchanges()}) > 3400


def test_fewer_facts_are_the_first_ones_of_each_relation() -> None:
    few, whole = ({r.kind: r.facts for r in load_relations(None, most)[0]} for most in (5, None))
    assert list(few["inventor"]) == list(whole["inventor"])[:5]
    assert len(few["opposite"]) == 5
    assert few["sum"] == whole["sum"]  # computed, not told


def test_tables_and_kinds_can_be_left_out_and_must_exist() -> None:
    kinds = {r.kind for r in load_relations(None, without=["sum", "capital"], tables=["home"])[0]}
    assert {"definition", "color", "difference"} <= kinds
    assert not {"sum", "capital", "inventor"} & kinds
    with pytest.raises(DataError, match="no such kind to leave out: sun; there are"):
        load_relations(None, without=["sun"])
    with pytest.raises(DataError, match="no such table of facts: hone; there are core"):
        load_relations(None, tables=["hone"])


def test_every_fact_is_asked_in_train_phrasings_and_almost_every_one_in_test() -> None:
    untested = []
    for relation in relations():
        counts = Counter(split_of(f"{relation.kind}|{template}") for template in relation.templates)
        assert counts["train"] >= 8, relation.kind
        untested += [relation.kind] if not counts["test"] else []
    assert not untested


def test_no_question_has_two_answers_or_two_splits() -> None:
    answers: dict[str, set[tuple[str, str]]] = {}
    for exchange in exchanges():
        answers.setdefault(exchange.question, set()).add((exchange.answer, exchange.split))
    assert not {question: found for question, found in answers.items() if len(found) > 1}


def test_what_is_said_can_be_spoken_and_is_short() -> None:
    for exchange in exchanges():
        for text, most in ((exchange.question, 17), (exchange.answer, 13)):
            assert re.fullmatch(r"[A-Z][A-Za-z' ,.?!]*[.?!]", text), text
            assert len(text.split()) <= most, text


def test_computed_facts_are_right() -> None:
    value = {number_words(number): number for number in range(-1000, 1001)}
    rule = {
        "sum": lambda a, b: a + b, "difference": lambda a, b: a - b, "product": lambda a, b: a * b,
        "quotient": lambda a, b: a / b, "story_more": lambda a, b: a + b, "story_fewer": lambda a, b: a - b,
        "larger": max, "hours_later": lambda a, b: (a + b - 1) % 12 + 1,
    }  # fmt: skip
    table = {relation.kind: relation.facts for relation in relations()}
    for kind, function in rule.items():
        for key, answer in table[kind].items():
            a, b = (value[number] for number in key.split("/")[:2])
            assert value[answer] == function(a, b), (kind, key)
    assert all(value[answer] == 2 * value[key] for key, answer in table["double"].items())
    assert all(2 * value[answer] == value[key] for key, answer in table["half"].items())
    assert all((value[key] % 2 == 0) == (answer == "even") for key, answer in table["parity"].items())
    assert all(answer == key[0].upper() for key, answer in table["first_letter"].items())
    assert all(answer.replace(", ", "").lower() == key for key, answer in table["spell"].items())


@pytest.mark.parametrize(
    ("kind", "question", "answer"),
    [
        ("capital", "What is the capital of the Netherlands?", "The capital of the Netherlands is Amsterdam."),
        ("country", "Where is Oslo?", "Oslo is in Norway."),
        ("sum", "How much is seven plus eight?", "Seven plus eight is fifteen."),
        ("sum", "Add twenty and thirty.", "Twenty plus thirty is fifty."),
        ("difference", "Take three from ten.", "Ten minus three is seven."),
        ("product", "What is six times five?", "Six times five is thirty."),
        ("quotient", "Divide thirty by six.", "Thirty divided by six is five."),
        ("half", "How much is half of fifty?", "Half of fifty is twenty five."),
        ("story_more", "I have two pens and get three more. How many do I have?", "You have five pens."),
        ("hours_later", "It is eleven o'clock. What time is it in two hours?", "It will be one o'clock."),
        ("days_later", "Which day is two days after Saturday?", "Two days after Saturday is Monday."),
        ("quantity", "How many minutes are in an hour?", "There are sixty minutes in an hour."),
        ("quantity", "How many sides are in a hexagon?", "There are six sides in a hexagon."),
        ("opposite", "What is the opposite of war?", "The opposite of war is peace."),
        ("day_after", "What comes after Monday?", "The day after Monday is Tuesday."),
        ("month_before", "What comes before January?", "The month before January is December."),
        ("number_before", "Which number comes before one?", "Zero comes before one."),
        ("bigger", "Which is bigger, an ant or a cow?", "A cow is bigger."),
        ("slower", "Which is slower, a horse or a snail?", "A snail is slower."),
        ("repeat", "Say the word apple.", "Apple."),
        ("spell", "Spell cat.", "C, A, T."),
        ("count", "Count to three.", "One, two, three."),
        ("count_down", "Count down from three.", "Three, two, one."),
    ],
)
def test_questions_have_their_answers(kind: str, question: str, answer: str) -> None:
    assert {e.answer for e in exchanges() if e.question == question and e.kind == kind} == {answer}

from icebreaker.data.relations import Relation, phrased, split_of

QUANTITY = Relation(
    kind="quantity",
    templates=("How many {a} does {b} have?",),
    followups=(),
    answer="{y} {a} in {b}.",
    facts={"days/a week": "seven"},
)


def test_a_relation_fills_whole_keys_parts_and_capitals() -> None:
    assert QUANTITY.reply("days/a week") == "Seven days in a week."
    assert QUANTITY.fill("{B} has how many {a}?", "days/a week") == "A week has how many days?"
    story = phrased("s", "{y} {c}.", {"two/one/cups": "three"}, nouns=[], clauses=[], asks=[], followups=[])
    assert story.fill("{a} and {b} {c}?", "two/one/cups") == "Two and one cups?"


def test_own_facts_go_before_added_ones() -> None:
    more = QUANTITY.with_facts({"days/a week": "eight", "hours/a day": "twenty four"})
    assert more.facts == {"days/a week": "seven", "hours/a day": "twenty four"}


def test_nouns_and_clauses_are_framed_and_phrasings_keep_their_split() -> None:
    capital = phrased("capital", "{y}.", {"Spain": "Madrid"}, nouns=["the capital of {x}"], clauses=["where it is"],
                      asks=["Name it.", "Name it."], followups=[])  # fmt: skip
    assert "What is the capital of {x}?" in capital.templates
    assert "Tell me where it is." in capital.templates
    assert capital.templates.count("Name it.") == 1
    splits = [capital.of_split(split) for split in ("train", "valid", "test")]
    assert sorted(template for own in splits for template in own) == sorted(capital.templates)
    assert all(split_of(f"capital|{template}") == "test" for template in splits[2])

"""Everything the mini backbone is taught as question and answer. Knows nothing of conversations.

Facts come from ``facts/*.toml`` (written by this project), from the country table of the data folder, and from
generators of numbers and words. Small talk comes in groups of whole sentences; a group under ``SMALLEST_SPLIT_GROUP``
sentences is all train, since nobody could guess the answer to its only other wording.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from icebreaker.data.corpus_countries import country_relations, read_countries
from icebreaker.data.corpus_numbers import number_relations
from icebreaker.data.corpus_words import word_relations
from icebreaker.data.relations import Exchange, Relation, phrased, split_of
from icebreaker.errors import DataError

__all__ = ["TABLES", "load_relations"]

SMALLEST_SPLIT_GROUP = 6
FILES = ("core", "nature", "world", "words", "home", "howto", "talk")
TABLES = (*FILES, "countries")


def load_relations(
    source: Path | None,
    most_facts: int | None = None,
    without: Collection[str] = (),
    tables: Collection[str] = TABLES,
) -> tuple[list[Relation], list[Exchange]]:
    """All relations and the small talk.

    Args:
        most_facts: of a relation of ``facts/`` or of countries, in the order written (the best known stand first);
            None keeps all. What is computed is not cut.
        without: kinds of relations that are left out.
        tables: the files of ``facts/`` that are read (``core`` always is), and ``countries`` for that of ``source``.
        source: the data folder with ``text/countries.jsonl.gz``; without it only the countries of ``core.toml``.

    Raises:
        DataError: ``source`` has no country table, or there is no kind or table of that name.
    """
    if unread := set(tables) - set(TABLES):
        raise DataError(f"no such table of facts: {min(unread)}; there are {', '.join(TABLES)}")
    contents = [_table(name) for name in FILES if name in tables or name == "core"]
    countries = read_countries(source) if source and "countries" in tables else []
    rows = [row for table in contents for row in table.get("relations", [])]
    facts = {row["kind"]: row["facts"] for row in rows if "facts" in row}
    written = {row["kind"]: _relation(row, facts) for row in rows}
    written |= {r.kind: r for r in country_relations(countries, written)}
    told = _merged(list(written.values()))
    told = [relation.first(most_facts or len(relation.facts)) for relation in told]
    relations = [*told, *number_relations(), *word_relations()]
    if unknown := set(without) - {relation.kind for relation in relations}:
        raise DataError(f"no such kind to leave out: {min(unknown)}; there are {sorted(r.kind for r in relations)}")
    relations = [relation for relation in relations if relation.kind not in without]
    return relations, [exchange for table in contents for exchange in _small_talk(table.get("talks", []))]


def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("icebreaker.data") / "facts" / f"{name}.toml").read_text())


def _relation(row: Mapping[str, Any], facts: Mapping[str, dict[str, str]]) -> Relation:
    own = row.get("facts") or {value: key for key, value in facts[row["inverse_of"]].items()}
    return phrased(
        row["kind"],
        row["answer"],
        own,
        nouns=row.get("nouns", []),
        clauses=row.get("clauses", []),
        asks=row["asks"],
        followups=row["followups"],
    )


def _merged(relations: list[Relation]) -> list[Relation]:
    """``more_opposite`` is asked for as ``opposite`` is: one relation, whose first facts go before later ones."""
    table = {relation.kind: relation for relation in relations}
    for kind in [kind for kind in table if kind.startswith("more_")]:
        first = kind.removeprefix("more_")
        table[first] = table[first].with_facts(table.pop(kind).facts)
    return list(table.values())


def _small_talk(groups: list[dict[str, Any]]) -> Iterator[Exchange]:
    for group in groups:
        splittable = len(group["asks"]) >= SMALLEST_SPLIT_GROUP
        for ask in group["asks"]:
            split = split_of(f"talk|{ask}") if splittable else "train"
            yield Exchange(kind="talk", question=ask, answer=group["answer"], split=split)

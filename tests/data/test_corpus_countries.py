import gzip
from pathlib import Path

import pytest
from tiny_countries import write_countries

from icebreaker.data.corpus_countries import read_countries
from icebreaker.data.corpus_facts import load_relations
from icebreaker.errors import DataError


def facts(source: Path) -> dict[str, dict[str, str]]:
    return {relation.kind: relation.facts for relation in load_relations(source)[0]}


def test_the_table_adds_facts_with_one_plain_answer(tmp_path: Path) -> None:
    known = facts(write_countries(tmp_path))
    assert known["capital"]["Uruguay"] == "Montevideo"
    assert known["country"]["Montevideo"] == "Uruguay"
    assert known["continent"]["Uruguay"] == "South America"
    assert known["language"]["Moldova"] == "Romanian"
    assert known["capital"]["Moldova"] == "Chisinau"
    assert known["currency"] == {
        "Portugal": "euro", "Spain": "euro", "Uruguay": "Uruguayan peso", "Moldova": "Moldovan leu"
    }  # fmt: skip
    assert known["neighbours"] == {"Portugal": "Spain", "Spain": "France and Portugal", "France": "Spain"}
    assert "Aruba" not in known["capital"]  # an island few have heard of


def test_what_is_written_goes_before_the_table(tmp_path: Path) -> None:
    assert facts(write_countries(tmp_path))["capital"]["France"] == "Paris"


def test_without_the_table_there_are_the_written_countries_only(tmp_path: Path) -> None:
    kinds = {r.kind: r.facts for r in load_relations(write_countries(tmp_path), tables=["core"])[0]}
    assert "Uruguay" not in kinds["capital"]
    assert not {"currency", "neighbours"} & set(kinds)


def test_a_missing_or_damaged_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--source must be the data folder"):
        read_countries(tmp_path)
    path = write_countries(tmp_path) / "text" / "countries.jsonl.gz"
    for text in ("{", "{}", '{"name": "Spain", "code": "ESP"}', "7"):
        with gzip.open(path, "wt") as file:
            file.write(text)
        with pytest.raises(DataError, match="expected a gzipped JSONL of countries"):
            read_countries(tmp_path)
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(DataError, match="expected a gzipped JSONL of countries"):
        read_countries(tmp_path)

"""Facts about countries from mledoze/countries (ODbL 1.0), as relations. Knows nothing of conversations.

Only well-known countries, and only facts with one plain answer: one capital, one language, one currency, at most three
neighbours. The hand-written facts of ``facts/core.toml`` go before these.
"""

import gzip
import json
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.data.relations import Relation, phrased
from icebreaker.errors import DataError

__all__ = ["Country", "country_relations", "read_countries"]

FILE = Path("text") / "countries.jsonl.gz"
WELL_KNOWN = frozenset((
    "Afghanistan", "Albania", "Algeria", "Angola", "Argentina", "Armenia", "Australia", "Austria", "Azerbaijan",
    "Bahamas", "Bangladesh", "Belarus", "Belgium", "Bolivia", "Botswana", "Brazil", "Bulgaria", "Cambodia",
    "Cameroon", "Canada", "Chile", "China", "Colombia", "Congo", "Croatia", "Cuba", "Cyprus", "Czechia", "Denmark",
    "Ecuador", "Egypt", "Estonia", "Ethiopia", "Fiji", "Finland", "France", "Georgia", "Germany", "Ghana", "Greece",
    "Guatemala", "Haiti", "Honduras", "Hungary", "Iceland", "India", "Indonesia", "Iran", "Iraq", "Ireland", "Israel",
    "Italy", "Jamaica", "Japan", "Jordan", "Kazakhstan", "Kenya", "Kuwait", "Laos", "Latvia", "Lebanon", "Libya",
    "Lithuania", "Luxembourg", "Madagascar", "Malaysia", "Mali", "Mexico", "Moldova", "Mongolia", "Montenegro",
    "Morocco", "Mozambique", "Myanmar", "Namibia", "Nepal", "Netherlands", "Nicaragua", "Niger", "Nigeria", "Norway",
    "Oman", "Pakistan", "Panama", "Paraguay", "Peru", "Philippines", "Poland", "Portugal", "Qatar", "Romania",
    "Russia", "Rwanda", "Senegal", "Serbia", "Singapore", "Slovakia", "Slovenia", "Somalia", "Spain", "Sudan",
    "Sweden", "Switzerland", "Syria", "Tanzania", "Thailand", "Tunisia", "Uganda", "Ukraine", "Uruguay", "Uzbekistan",
    "Venezuela", "Vietnam", "Zambia", "Zimbabwe",
    "Saudi Arabia", "South Africa", "South Korea", "North Korea", "New Zealand", "Costa Rica", "El Salvador",
    "Dominican Republic", "United States", "United Kingdom", "United Arab Emirates", "Sri Lanka", "Ivory Coast",
    "North Macedonia",
))  # fmt: skip
WITH_ARTICLE = frozenset((
    "Bahamas", "Netherlands", "Philippines", "Dominican Republic", "United States", "United Kingdom",
    "United Arab Emirates", "Ivory Coast",
))  # fmt: skip
DISPUTED_CAPITALS = frozenset(("Bolivia", "Sri Lanka", "Ivory Coast", "Israel"))
TWO_CONTINENTS = frozenset(("Russia", "Kazakhstan", "Azerbaijan", "Georgia", "Armenia", "Cyprus", "Egypt", "Indonesia"))
CONTINENTS = {
    "Europe": "Europe", "Asia": "Asia", "Africa": "Africa", "Oceania": "Oceania", "South America": "South America",
    "North America": "North America", "Central America": "North America", "Caribbean": "North America",
}  # fmt: skip
CHANGED_CURRENCIES = frozenset(("Bulgaria", "Venezuela", "Zimbabwe"))  # the file is older than the change
RENAMED = {"Moldavian": "Romanian"}  # Moldova's own law has said so since the file was written
UNDECOMPOSED = str.maketrans({"ł": "l", "đ": "d", "ø": "o", "ı": "i"})  # letters that NFKD leaves whole
MOST_NEIGHBOURS = 3


@dataclass(frozen=True, kw_only=True)
class Country:
    """What is asked about one country; None and () where there is no plain answer."""

    name: str
    capital: str | None
    continent: str | None
    language: str | None
    currency: str | None
    neighbours: tuple[str, ...]


def read_countries(source: Path) -> list[Country]:
    """The well-known countries of ``source/text/countries.jsonl.gz``, in the order of the file.

    Raises:
        DataError: the file is missing or is no gzipped JSONL of countries.
    """
    path = source / FILE
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        names = {row["code"]: row["name"] for row in rows}
        return [_country(row, names) for row in rows if row["name"] in WELL_KNOWN]
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}: expected a gzipped JSONL of countries: {error!r}; --source must be the data folder"
        ) from error


def country_relations(countries: list[Country], core: Mapping[str, Relation]) -> Iterator[Relation]:
    """``core``'s relations of countries with the file's facts added, and relations of their own.

    Countries whose capital is in ``core`` stand first.
    """
    first = core["capital"].facts
    table = {c.name: c for c in sorted(countries, key=lambda country: country.name not in first)}
    capitals = {name: country.capital for name, country in table.items() if country.capital}
    capital = core["capital"].with_facts(capitals)
    yield capital
    yield core["country"].with_facts({value: key for key, value in capital.facts.items() if value != key})
    yield core["continent"].with_facts({name: c.continent for name, c in table.items() if c.continent})
    yield core["language"].with_facts({name: c.language for name, c in table.items() if c.language})
    if currencies := {name: c.currency for name, c in table.items() if c.currency}:
        yield phrased(
            "currency", "The currency of {x} is the {y}.", currencies,
            nouns=["the currency of {x}", "the money of {x}"],
            clauses=["which currency {x} has", "what people pay with in {x}"],
            asks=["Which currency does {x} have?", "What do people pay with in {x}?", "Name the currency of {x}.",
                  "What is the money in {x} called?", "How do people pay in {x}?"],
            followups=["And of {x}?", "And in {x}?"],
        )  # fmt: skip
    if neighbours := {name: _listed(c.neighbours) for name, c in table.items() if c.neighbours}:
        yield phrased(
            "neighbours", "{X} borders {y}.", neighbours,
            nouns=[],
            clauses=["which countries border {x}", "what the neighbours of {x} are", "what {x} borders"],
            asks=["Which countries border {x}?", "What are the neighbours of {x}?", "Name the neighbours of {x}.",
                  "Which countries are next to {x}?", "What countries lie beside {x}?", "{X} borders which countries?"],
            followups=["And {x}?", "What about {x}?"],
        )  # fmt: skip


def _country(row: Mapping[str, Any], names: Mapping[str, str]) -> Country:
    name = row["name"]
    capitals, languages, currencies = row["capital"], row["languages"], row["currencies"]
    borders = [names[code] for code in row["borders"]]
    known = 0 < len(borders) <= MOST_NEIGHBOURS and all(border in WELL_KNOWN for border in borders)
    plain_money = len(currencies) == 1 and "CFA" not in currencies[0] and name not in CHANGED_CURRENCIES
    plain_capital = len(capitals) == 1 and name not in DISPUTED_CAPITALS
    plain_language = len(languages) == 1 and languages[0].isalpha()
    region = CONTINENTS.get(row["subregion"]) or CONTINENTS.get(row["region"])
    return Country(
        name=_called(name),
        capital=_ascii(capitals[0]) if plain_capital else None,
        continent=None if name in TWO_CONTINENTS else region,
        language=_ascii(RENAMED.get(languages[0], languages[0])) if plain_language else None,
        currency=_ascii(currencies[0]).replace("Euro", "euro") if plain_money else None,
        neighbours=tuple(sorted(_called(border) for border in borders)) if known else (),
    )


def _called(name: str) -> str:
    return f"the {name}" if name in WITH_ARTICLE else name


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.translate(UNDECOMPOSED)).encode("ascii", "ignore").decode()
    return " ".join(plain.replace("D.C.", "").replace("-", " ").split())


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""A small country table, as the data folder holds it."""

import gzip
import json
from pathlib import Path

ROWS = [
    {"name": "Portugal", "capital": ["Lisbon"], "region": "Europe", "subregion": "Southern Europe", "code": "PRT",
     "languages": ["Portuguese"], "currencies": ["Euro"], "borders": ["ESP"]},
    {"name": "Uruguay", "capital": ["Montevideo"], "region": "Americas", "subregion": "South America", "code": "URY",
     "languages": ["Spanish"], "currencies": ["Uruguayan peso"], "borders": []},
    {"name": "Spain", "capital": ["Madrid"], "region": "Europe", "subregion": "Southern Europe", "code": "ESP",
     "languages": ["Spanish"], "currencies": ["Euro"], "borders": ["FRA", "PRT"]},
    {"name": "France", "capital": ["Pariis"], "region": "Europe", "subregion": "Western Europe", "code": "FRA",
     "languages": ["French", "Breton"], "currencies": ["Euro", "CFP franc"], "borders": ["ESP"]},
    {"name": "Moldova", "capital": ["Chișinău"], "region": "Europe", "subregion": "Eastern Europe", "code": "MDA",
     "languages": ["Moldavian"], "currencies": ["Moldovan leu"], "borders": []},
    {"name": "Aruba", "capital": ["Oranjestad"], "region": "Americas", "subregion": "Caribbean", "code": "ABW",
     "languages": ["Dutch"], "currencies": ["Aruban florin"], "borders": []},
]  # fmt: skip


def write_countries(source: Path) -> Path:
    """Put the table below ``source`` and give ``source`` back."""
    (source / "text").mkdir(parents=True, exist_ok=True)
    with gzip.open(source / "text" / "countries.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in ROWS))
    return source

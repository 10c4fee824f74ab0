"""Counts to figures: error rates pooled over items, shares with their intervals, means and percentiles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from icebreaker.extras import load_extra

__all__ = ["error_counts", "error_rates", "share", "spread_of"]

CONFIDENCE_Z = 1.959964  # 95 %


def error_counts(reference: str, hypothesis: str) -> dict[str, int]:
    """Errors and length in words and in characters without spaces (jiwer); texts are compared as they are.

    An empty reference counts every word that was heard as an error.
    """
    jiwer = load_extra("jiwer")
    counts = dict[str, int]()
    for name, (wanted, got) in {
        "words": (reference, hypothesis),
        "characters": (" ".join("".join(reference.split())), " ".join("".join(hypothesis.split()))),
    }.items():
        length = len(wanted.split())
        if length:
            found = jiwer.process_words(wanted, got)
            errors = found.substitutions + found.deletions + found.insertions
        else:
            errors = len(got.split())
        counts |= {name: length, f"{name}_wrong": int(errors)}
    return counts


def error_rates(counts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """``{"wer", "cer"}`` in percent, pooled: long texts weigh more."""
    return {
        rate: 100 * sum(int(each[f"{unit}_wrong"]) for each in counts) / max(1, sum(int(each[unit]) for each in counts))
        for rate, unit in (("wer", "words"), ("cer", "characters"))
    }


def share(hits: Sequence[bool]) -> dict[str, float]:
    """Percent of ``hits`` that are true, their number, and the 95 % interval (Wilson)."""
    count = len(hits)
    if not count:
        return {"percent": float("nan"), "count": 0, "low": float("nan"), "high": float("nan")}
    rate, square = sum(hits) / count, CONFIDENCE_Z**2
    middle = (rate + square / (2 * count)) / (1 + square / count)
    half = CONFIDENCE_Z * np.sqrt(rate * (1 - rate) / count + square / (4 * count**2)) / (1 + square / count)
    return {"percent": 100 * rate, "count": count, "low": 100 * (middle - half), "high": 100 * (middle + half)}


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Average, median and 90th percentile."""
    if not values:
        return {"average": float("nan"), "p50": float("nan"), "p90": float("nan"), "count": 0}
    p50, p90 = np.percentile(values, [50, 90])
    return {"average": float(np.mean(values)), "p50": float(p50), "p90": float(p90), "count": len(values)}

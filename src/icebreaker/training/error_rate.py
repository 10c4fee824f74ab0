"""Word and character error rates, and whether an answer is right. Knows nothing of audio or models."""

import re
from collections.abc import Sequence

__all__ = ["answered", "edit_distance", "error_rates", "plain_words"]


def edit_distance(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Insertions, deletions and substitutions that turn ``reference`` into ``hypothesis`` (Levenshtein)."""
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, start=1):
        diagonal, row[0] = row[0], i
        for j, got in enumerate(hypothesis, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (wanted != got))
    return row[-1]


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    """``{"wer", "cer"}`` pooled over all texts, as fractions; texts are compared as they are."""
    words = sum(edit_distance(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True))
    characters = sum(edit_distance(r, h) for r, h in zip(references, hypotheses, strict=True))
    return {
        "wer": words / max(1, sum(len(r.split()) for r in references)),
        "cer": characters / max(1, sum(len(r) for r in references)),
    }


def plain_words(text: str) -> str:
    """Lower case letters, digits and apostrophes in words, one blank between words."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower().replace("’", "'")))


def answered(question: str, answer: str, said: str) -> bool:
    """Whether ``said`` has every word of ``answer`` that the question does not give away."""
    wanted = set(plain_words(answer).split()) - set(plain_words(question).split())
    return (wanted or set(plain_words(answer).split())) <= set(plain_words(said).split())

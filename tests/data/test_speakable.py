import pytest

from icebreaker.data.speakable import REASONS, in_words, why_unspeakable
from icebreaker.data.text import is_speakable


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It’s 25% (more or less)…", "It's twenty five percent."),
        ("Convert 45 kilometers to 3.25 miles", "Convert forty five kilometers to three point two five miles"),
        ("There are 12,500 of them; really", "There are twelve thousand five hundred of them, really"),
        ("salt & pepper: both", "salt and pepper, both"),
        ('He said "yes" - twice', "He said yes - twice"),
        ("It fell to -5", "It fell to minus five"),
    ],
)
def test_repairs(written: str, spoken: str) -> None:
    assert in_words(written) == spoken
    assert is_speakable(spoken)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("What is the capital of France?", None),
        ("Give me 3 tips for staying healthy.", None),
        ("", "empty"),
        ("  ...", "empty"),
        ("Explain this:\n```python\nprint(1)\n```", "code"),
        ("def add(a, b): return a + b", "code"),
        ("SELECT name FROM people", "code"),
        ("See https://example.org for more", "url"),
        ("Mail me at a@b.org", "url"),
        ("Open /etc/passwd", "url"),
        ("1. First do this\n2. Then that", "table"),
        ("- milk\n- eggs", "table"),
        ("a | b | c", "table"),
        ("## Heading", "markup"),
        ("That is **very** good", "markup"),
        ("Solve x^2 = 4", "markup"),
        ("Was ist die Hauptstadt von Frankreich und Polen heute", "non-english"),
        ("Où est la gare?", "non-english"),
        ("你好吗", "non-english"),
        ("It costs 3 € or so", "symbols"),
        ("The number 123456789123 is large", "symbols"),
        ("the cat and the dog and the cat and the dog and the cat and the dog", "repetitive"),
        (" ".join(f"is it the {c}" for c in "abcdefghijklmnop"), "too long"),
    ],
)
def test_reasons(text: str, reason: str | None) -> None:
    assert why_unspeakable(text, 40) == reason
    assert reason is None or reason in REASONS


def test_what_passes_can_be_spoken_once_repaired() -> None:
    for text in ("What's 2 + 2?", "Tell me: is it 5 o'clock (or 6)?", "Who wrote “Emma”?"):
        reason = why_unspeakable(text, 40)
        assert (reason is None) == is_speakable(in_words(text))

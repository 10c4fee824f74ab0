"""What our own bundles say for a piece of written text. Knows nothing of tokens or audio.

The official clean-up is in ``text.rules``; ours drops markup, leaves the words alone and invents no punctuation.
"""

import re

__all__ = ["spoken_text"]

SPEAKABLE = re.compile(r"[^\W_]")


def spoken_text(text: str) -> str:
    """``text`` without markdown, one line, single spaces; empty where nothing in it can be spoken.

    The space in front of a segment says that a new word begins; it is kept, because tokenizers care.
    """
    text = text.replace("\ufffd", "")
    text = re.sub(r"```\w*", " ", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links and pictures: their label
    text = re.sub(r"(?m)^\s*(?:#{1,6}|[-*+•>]|\|)\s+", " ", text)  # headings, bullets, quotes
    text = re.sub(r"[*`~|]+|(?<!\w)_+|_+(?!\w)", "", text)
    text = re.sub(r"\s+", " ", text).rstrip()
    return text if SPEAKABLE.search(text) else ""

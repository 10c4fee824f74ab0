"""How the official Freeze-Omni cleans and cuts a reply's text before it speaks it. Knows nothing of tokens or audio.

Everything here mirrors the official implementation (it goes with arXiv:2411.00774), oddities included: the text that
is spoken ends in a Chinese full stop in any language, and "3.14" becomes "3:14". Our own bundles use ``text.spoken``.
"""

import re

__all__ = ["SERVER_MIN_TOKENS", "flushes_offline", "flushes_server", "post_process"]

CJK = "\u4e00-\u9fa5"
COMMAS = str.maketrans({"、": "，", "(": ",", ")": ",", "（": "，", "）": "，"})
DROPPED = str.maketrans(dict.fromkeys("\n\r\t*_`~"))
STRONG_MARKS = "。：？！.?!\n"  # end a segment at any time
WEAK_MARKS = ",，。：？！.:?!\n"  # end one only while the user waits, or once it is long
CLOSING = "。？！.?!"  # a cleaned text ends in one of these
REPLACED_AT_END = ",，;；:：、"
SERVER_MIN_TOKENS = 4
SERVER_LONG_TOKENS = 20


def post_process(text: str) -> str:
    """What the official speech decoder is given for ``text`` (official implementation, text post-processing)."""
    text = text.translate(COMMAS).translate(DROPPED)
    text = re.sub(r"([.:])\s+", r"\1", text)
    if re.search(f"[{CJK}]", text):
        text = re.sub(rf"(\d+)\.\s?([{CJK}A-Za-z])", r"\1：\2", text)
    else:
        text = re.sub(r"(\d+)\.\s?(\w)", r"\1:\2", text)
    if not text or text[-1] in CLOSING:
        return text
    return (text[:-1] if text[-1] in REPLACED_AT_END else text) + "。"


def flushes_offline(new: str, before: str) -> bool:
    """Whether the offline script ends a segment here.

    Args:
        new: what the newest token added to the text.
        before: the whole text without ``new``. Where it is empty the official script can crash; we see no digit.
    """
    return _ends_in(new, before, STRONG_MARKS)


def flushes_server(new: str, before: str, pending: int, packets_sent: int) -> bool:
    """Whether the official server ends a segment here.

    Args:
        new: what the newest token added to the text.
        before: the whole text without ``new``.
        pending: tokens gathered since the last segment, the newest one included.
        packets_sent: audio packets of this reply that went out so far.
    """
    eager = packets_sent == 0 or pending >= SERVER_LONG_TOKENS
    return pending >= SERVER_MIN_TOKENS and _ends_in(new, before, WEAK_MARKS if eager else STRONG_MARKS)


def _ends_in(new: str, before: str, marks: str) -> bool:
    if not new or new[-1] not in marks:
        return False
    return not (new[-1] == "." and before[-1:].isdigit())

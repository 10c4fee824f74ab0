"""Cuts a growing reply into segments that can be spoken. Knows no tokenizer: it sees the decoded text after each token.

Three rules. The official ones mirror Freeze-Omni. ``early`` is ours: the first segment may leave after a few tokens at
a word boundary, without punctuation, because the user is waiting; later ones are sentences or clauses. Every token
lands in exactly one segment, in order, whatever the text.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from icebreaker.text.rules import SERVER_MIN_TOKENS, flushes_offline, flushes_server

__all__ = ["Segment", "Segmenter", "SegmenterConfig", "SegmenterState"]

REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are not (yet) a character
MAX_HELD = 3  # tokens; a UTF-8 character has four bytes, so after three more it is not incomplete but broken
CLAUSE_MARKS = ",，、;；:："
SENTENCE_MARKS = ".!?。！？…\n"
WIDE = re.compile("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]")  # scripts that write no space between words
SURROUNDINGS = " \"')]”’"
NOT_AN_END = re.compile(
    r"(?:^|[\s(\"'])(?:Dr|Mr|Mrs|Ms|Prof|Sr|Jr|St|No|vs|etc|Inc|Ltd|approx|[A-Z]|e\.g|i\.e|[ap]\.m|U\.S)\.$"
    r"|^\s*\d+\.$"  # the number of a list item
)


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """When a segment may end.

    Attributes:
        rule: ``official_offline`` and ``official_server`` mirror Freeze-Omni and ignore the rest.
        first_tokens: the first segment may end at any word boundary once it has this many tokens.
        min_tokens: no other segment is shorter, the last one apart.
        clause_tokens: from this length on a comma ends a segment too.
        max_tokens: from this length on any word boundary does; at twice this length anything does.
    """

    rule: Literal["early", "official_offline", "official_server"] = "early"
    first_tokens: int = 4
    min_tokens: int = SERVER_MIN_TOKENS
    clause_tokens: int = 12
    max_tokens: int = 40

    def __post_init__(self) -> None:
        if not 0 < self.first_tokens <= self.max_tokens or not 0 < self.min_tokens <= self.max_tokens:
            raise ValueError(
                f"first_tokens {self.first_tokens} and min_tokens {self.min_tokens} must lie in 1..{self.max_tokens}"
            )


@dataclass(frozen=True)
class Segment:
    """A stretch of the reply to be spoken in one go.

    Attributes:
        text: as the LLM wrote it.
        start: index of its first token in the reply.
        ends: for each of its tokens, how many characters of ``text`` stand when that token is complete.
    """

    text: str
    start: int
    ends: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Index of the token after its last one."""
        return self.start + len(self.ends)


class SegmenterState(NamedTuple):
    """Where a reply stands: ``text`` up to the newest complete character, and what of it has left as segments."""

    text: str = ""
    start: int = 0  # tokens emitted
    cut: int = 0  # characters emitted
    ends: tuple[int, ...] = ()  # for each pending token, the length of ``text`` after it
    held: int = 0  # newest tokens whose text is not looked at yet


class Segmenter:
    """Reply text in, segments out; one call a token. The state belongs to the caller, one to a reply."""

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self.config = config or SegmenterConfig()

    def initial_state(self) -> SegmenterState:
        """Of an empty reply."""
        return SegmenterState()

    def push(self, text: str, state: SegmenterState, packets_sent: int = 0) -> tuple[list[Segment], SegmenterState]:
        """Take in one more token.

        Args:
            text: the decoded text of all tokens of the reply so far, the new one included.
            state: from ``initial_state`` or the previous call.
            packets_sent: audio packets of this reply sent so far; only ``official_server`` looks at it.

        Returns:
            The segments that are complete now (at most two), and the next state.
        """
        if self._is_held(text, state):
            end = max([len(state.text if REPLACEMENT in text else text), *state.ends[-1:]])
            return [], state._replace(ends=(*state.ends, end), held=state.held + 1)
        before, new, held = state.text, text[len(state.text) :], state.held
        state = state._replace(text=before + new, ends=(*state.ends, len(before + new)), held=0)
        if self.config.rule == "early":
            return self._push_early(before, new, len(state.ends) - 1 - held, state)
        pending = len(state.ends)
        if self.config.rule == "official_offline":
            flush = flushes_offline(new, before)
        else:
            flush = flushes_server(new, before, pending, packets_sent)
        return _emit(state, pending) if flush else ([], state)

    def finish(self, text: str, state: SegmenterState) -> list[Segment]:
        """What is left when the reply has ended; ``text`` is all of it, an incomplete last character included."""
        if not state.ends:
            return []
        if len(text) > len(state.text):
            state = state._replace(text=text, ends=(*state.ends[:-1], len(text)))
        return _emit(state, len(state.ends))[0]

    def _is_held(self, text: str, state: SegmenterState) -> bool:
        new = text[len(state.text) :]
        if self.config.rule == "early":
            return new.endswith(REPLACEMENT) and state.held < MAX_HELD
        # The official callers first look at the text after the second token.
        return REPLACEMENT in new or state.start + len(state.ends) == 0

    def _push_early(
        self, before: str, new: str, pending: int, state: SegmenterState
    ) -> tuple[list[Segment], SegmenterState]:
        """``pending`` tokens make up ``before``; the rest, often just the newest, bring ``new``."""
        segments: list[Segment] = []
        if pending and self._ends_before(before, new, pending, state):
            segments, state = _emit(state, pending)
        if len(state.ends) >= self._fewest(state) and _is_closed(state.text[state.cut :]):
            more, state = _emit(state, len(state.ends))
            segments += more
        return segments, state

    def _ends_before(self, before: str, new: str, pending: int, state: SegmenterState) -> bool:
        """Whether a segment ends in front of the new token: decided one token late, when the word is known to end."""
        config = self.config
        if pending >= 2 * config.max_tokens:
            return True
        piece = before[state.cut :].strip(SURROUNDINGS)
        if not new or not piece or not _is_word_boundary(before, new) or NOT_AN_END.search(piece):
            return False
        if pending >= (config.first_tokens if state.start == 0 else config.max_tokens):
            return True
        if pending < self._fewest(state):
            return False
        return piece[-1] in SENTENCE_MARKS or (pending >= config.clause_tokens and piece[-1] in CLAUSE_MARKS)

    def _fewest(self, state: SegmenterState) -> int:
        """The user waits for the first segment, so even "Yes." may be one."""
        return self.config.min_tokens if state.start else min(2, self.config.min_tokens)


def _is_closed(piece: str) -> bool:
    """Whether ``piece`` ends beyond doubt; after "." a decimal may follow, after "?" another mark."""
    return piece[-1:] in ("。", "！", "？", "\n") and not piece.isspace()


def _is_word_boundary(before: str, new: str) -> bool:
    if new[0].isspace() or before[-1:].isspace():
        return True
    if WIDE.match(new[0]):
        return True
    return bool(WIDE.match(before[-1:])) and new[0].isalnum()


def _emit(state: SegmenterState, count: int) -> tuple[list[Segment], SegmenterState]:
    """The first ``count`` pending tokens as a segment."""
    end = state.ends[count - 1]
    segment = Segment(state.text[state.cut : end], state.start, tuple(each - state.cut for each in state.ends[:count]))
    return [segment], state._replace(start=segment.stop, cut=end, ends=state.ends[count:])

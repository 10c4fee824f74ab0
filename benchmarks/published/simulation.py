"""Callers and one engine, simulated: who waits for whom when ticks take as long as they were measured to take.

The engine's rules in short: every 160 ms of speech is heard in the next tick, one LLM call a tick serves all who listen
or write, a reply without sound gets its first segment's tokens at once, and who speaks next and how much is shared out
by the engine's own ``Pacing``. Knows nothing of models: costs come as functions of the batch.
"""

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from icebreaker.engine.pacing import NEVER_HEARD, Pacing

__all__ = ["Caller", "Costs", "Habits", "Outcome", "simulate"]

CHUNK_S, CODE_S, RENDERED, AHEAD_S = 0.16, 0.025, 8, 4.0
HELD_BACK = 13  # codes that the exact codec needs in advance of its sound
TOKENS_PER_S = 4.0  # of speech
GAPS = 0.01  # of replies: what a client's own buffer of a tenth of a second hides


@dataclass(frozen=True)
class Costs:
    """Seconds of one call, by the number of conversations in it."""

    hear: Callable[[int], float]  # features, encoder, adapter for 160 ms
    think: Callable[[int], float]  # one LLM call
    begin: Callable[[int], float]  # the speech decoder's start of a segment
    code: Callable[[int], float]  # one code
    render: Callable[[int], float]  # eight codes (``RENDERED``) to sound


@dataclass(frozen=True)
class Habits:
    """Of callers, in seconds on average; drawn anew for each turn, from half to one and a half times."""

    question_s: float = 4.0
    answer_s: float = 6.0
    pause_s: float = 1.0
    first_tokens: int = 5  # until a reply's first segment is complete


@dataclass
class Caller:
    """One conversation as the engine sees it."""

    speaks_from: float
    speaks_until: float
    next_chunk: float
    decided: float | None = None
    tokens: int = 0
    all_tokens: int = 0
    codes: int = 0
    all_codes: int = 0
    begun: bool = False
    heard_from: float | None = None  # when playback began, moved on by every gap

    def ready_s(self) -> float:
        """Sound made so far."""
        held = 0 if self.codes >= self.all_codes else HELD_BACK
        return max(0, self.codes - held) * CODE_S


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        first_ms: from each decision to the first sound.
        late_ms: by how much each 160 ms of speech were heard late.
        gaps: in playback.
        replies: begun.
        busy: share of the time that the device worked.
    """

    first_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    gaps: int = 0
    replies: int = 0
    busy: float = 0.0

    def p(self, share: float) -> float:
        """A percentile of the first sounds; infinite where there were none."""
        ordered = sorted(self.first_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")

    @property
    def good(self) -> bool:
        """p95 of the first sound within 350 ms, at most a gap in a hundred replies, and listening keeps up."""
        keeps_up = statistics.fmean(self.late_ms or [0]) < 1e3 * CHUNK_S
        return self.p(0.95) <= 350 and self.gaps <= GAPS * self.replies and keeps_up


class Hall:
    """The engine and its callers."""

    def __init__(self, callers: int, costs: Costs, habits: Habits, seed: int) -> None:
        self.costs, self.habits, self.random = costs, habits, random.Random(seed)
        self.now, self.worked, self.outcome = 0.0, 0.0, Outcome()
        self.pacing = Pacing(AHEAD_S)
        turn_s = habits.question_s + habits.answer_s + habits.pause_s
        self.callers = [self._asking(turn_s * i / callers) for i in range(callers)]

    def _drawn(self, mean_s: float) -> float:
        return mean_s * self.random.uniform(0.5, 1.5)

    def _asking(self, start: float) -> Caller:
        return Caller(start, start + self._drawn(self.habits.question_s), start + CHUNK_S)

    def tick(self) -> float:
        """Seconds that one round takes; 0: there was nothing to do."""
        spent, costs = 0.0, self.costs
        listening = [c for c in self.callers if c.decided is None and c.next_chunk <= self.now]
        if listening:
            spent += costs.hear(len(listening))
            self._hear(listening)
        writing = [c for c in self.callers if c.decided is not None and c.tokens < c.all_tokens]
        if listening or writing:
            spent += costs.think(len(listening) + len(writing))
        waiting = self._write(writing)
        spare = self.pacing.spare_s({i: self._lead(c) for i, c in enumerate(self.callers) if self._speaks(c)})
        while waiting and spent + costs.think(len(waiting)) < spare / 2:  # else those who speak get their sound first
            spent += costs.think(len(waiting))
            waiting = self._write(waiting)
        return spent + self._speak(spent)

    def _speaks(self, caller: Caller) -> bool:
        return caller.begun and caller.codes < caller.all_codes

    def _hear(self, listening: Sequence[Caller]) -> None:
        for caller in listening:
            self.outcome.late_ms.append(1e3 * (self.now - caller.next_chunk))
            caller.next_chunk += CHUNK_S
            if caller.next_chunk > caller.speaks_until + CHUNK_S:
                answer_s = self._drawn(self.habits.answer_s)
                caller.decided = self.now
                caller.all_tokens, caller.all_codes = round(answer_s * TOKENS_PER_S), round(answer_s / CODE_S)
                self.outcome.replies += 1

    def _write(self, writing: Sequence[Caller]) -> list[Caller]:
        """A token for each; those that still have no first segment."""
        for caller in writing:
            caller.tokens += 1
        return [c for c in writing if not c.begun and c.tokens < min(self.habits.first_tokens, c.all_tokens)]

    def _speak(self, spent: float) -> float:
        begun = self._begin()
        speaking = {i: c for i, c in enumerate(self.callers) if self._speaks(c)}
        leads = {i: self._lead(caller) for i, caller in speaking.items()}
        seated = sum(caller.decided is not None or caller.speaks_from <= self.now for caller in self.callers)
        wanted = self.pacing.share(leads, others=seated - len(leads))  # a first piece grows with their number
        codes = {i: self._codes(speaking[i], seconds) for i, seconds in wanted.items()}
        made = self._drawing(codes)
        extra = begun + made
        self.pacing.made(sum(wanted.values()), made)
        for i, count in codes.items():
            self._sound(self.callers[i], count, self.now + spent + extra)
        if codes:
            self.pacing.ticked(spent + extra)
        return extra

    def _begin(self) -> float:
        """Segments whose text is complete begin, one after the other."""
        ready = [c for c in self.callers if c.decided is not None and not c.begun]
        ready = [c for c in ready if c.tokens >= min(self.habits.first_tokens, c.all_tokens)]
        for caller in ready:
            caller.begun = True
        return len(ready) * self.costs.begin(1)

    def _codes(self, caller: Caller, seconds: float) -> int:
        held_back = 0 if caller.codes else HELD_BACK
        return min(caller.all_codes - caller.codes, held_back + math.ceil(seconds / CODE_S))

    def _drawing(self, codes: Mapping[int, int]) -> float:
        """Seconds for so many codes of each, drawn side by side, and for their sound."""
        counts = sorted(codes.values())
        drawn = sum(self.costs.code(sum(count > done for count in counts)) for done in range(max(counts, default=0)))
        return drawn + (self.costs.render(len(counts)) * max(counts) / RENDERED if counts else 0.0)

    def _lead(self, caller: Caller) -> float:
        return NEVER_HEARD if caller.heard_from is None else caller.ready_s() - (self.now - caller.heard_from)

    def _sound(self, caller: Caller, codes: int, at: float) -> None:
        before = caller.ready_s()
        caller.codes += codes
        if caller.heard_from is None and caller.ready_s() > 0:
            assert caller.decided is not None
            caller.heard_from = at
            self.outcome.first_ms.append(1e3 * (at - caller.decided))
        elif caller.heard_from is not None and at > caller.heard_from + before + 1e-9:
            self.outcome.gaps += 1
            caller.heard_from = at - before

    def end_turns(self) -> None:
        """Who has heard an answer to its end asks again."""
        for i, caller in enumerate(self.callers):
            if caller.heard_from is not None and caller.codes >= caller.all_codes:
                over = caller.heard_from + caller.ready_s()
                if over <= self.now:
                    self.callers[i] = self._asking(over + self._drawn(self.habits.pause_s))

    def next_event(self) -> float:
        """When there will be something to do again, if there is nothing now."""
        times = []
        for caller in self.callers:
            if caller.decided is None:
                times.append(caller.next_chunk)
            elif caller.heard_from is not None:
                finished = caller.codes >= caller.all_codes
                times.append(caller.heard_from + caller.ready_s() - (0 if finished else AHEAD_S))
        return max(self.now + 0.001, min(times, default=self.now + CHUNK_S))


def simulate(callers: int, costs: Costs, habits: Habits, seconds: float = 60.0, seed: int = 0) -> Outcome:
    """So many callers on one engine for so long."""
    hall = Hall(callers, costs, habits, seed)
    while hall.now < seconds:
        hall.end_turns()
        spent = hall.tick()
        hall.worked += spent
        hall.now = hall.now + spent if spent else hall.next_event()
    hall.outcome.busy = hall.worked / hall.now
    return hall.outcome

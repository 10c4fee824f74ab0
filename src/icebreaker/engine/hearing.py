"""When speech begins, goes on and stops, from the voice detector's probabilities; and the audio it is about.

Knows no model and no conversation. Positions are samples of the session's input at 16 kHz.
"""

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from icebreaker.audio.vad import WINDOW_SAMPLES
from icebreaker.engine.messages import SessionConfig, Waveform

__all__ = ["EARLY_MS", "PAUSE_MS", "SAMPLE_RATE", "AudioBuffer", "Ear", "Opinion", "Patience", "patience"]

SAMPLE_RATE = 16000
WINDOW_MS = 1000 * WINDOW_SAMPLES / SAMPLE_RATE  # 32
START_WINDOWS = 2  # voiced ones in a row begin speech; a click is over sooner
HYSTERESIS = 0.15  # below the threshold by this much is silence
EARLY_MS = 32.0  # of silence after which the state head has heard the last word: it may take the turn if it is sure,
PAUSE_MS = 160.0  # and after which its verdict is about a pause, and counts whatever it is
OPINION_CHUNKS = 4  # of 160 ms, whose verdicts count together
LIKELY = 0.6  # of the probability at which the head is sure
LISTENING_ON = 0.25  # of the probability that the user goes on, under which "ignore" dismisses nothing
WAITS_MS = {  # by eagerness: likely_ms, silence_ms, unlikely_ms, confirm_ms of ``Patience``
    "low": (1000.0, 2000.0, 3000.0, 800.0),
    "auto": (500.0, 800.0, 1600.0, 640.0),
    "medium": (500.0, 800.0, 1600.0, 640.0),
    "high": (300.0, 500.0, 900.0, 300.0),
}
FORGET_MS = 320.0  # of silence after which speech that nobody opened an utterance for is forgotten


@dataclass(frozen=True)
class Ear:
    """What was heard of the present stretch of speech.

    Attributes:
        speaking: somebody speaks, or paused a moment ago.
        started: position where the stretch began.
        run: voiced windows in a row.
        voiced_ms: all voiced windows of the stretch.
        quiet_ms: silence since the last of them.
    """

    speaking: bool = False
    started: int = 0
    run: int = 0
    voiced_ms: float = 0.0
    quiet_ms: float = 0.0

    def heard(self, probability: float, threshold: float, position: int) -> "Ear":
        """One more window, which begins at ``position``."""
        if probability < threshold - (HYSTERESIS if self.speaking else 0.0):
            quiet = replace(self, run=0, quiet_ms=self.quiet_ms + WINDOW_MS)
            return quiet if self.speaking or self.run == 0 else replace(quiet, voiced_ms=0.0)
        started = position if self.run == 0 and not self.speaking else self.started
        run = self.run + 1
        speaking = self.speaking or run >= START_WINDOWS
        return Ear(speaking, started, run, self.voiced_ms + WINDOW_MS, 0.0)


@dataclass(frozen=True)
class Opinion:
    """What the state head thought of the newest chunks of a silence: the means of its verdicts.

    One verdict errs; those on the chunks of one silence are about the same words (measured, docs/decisions.md).

    Attributes:
        verdicts: that count, the newest last: (take, ignore).
    """

    verdicts: tuple[tuple[float, float], ...] = ()

    @property
    def take(self) -> float:
        """Probability; 0 where there is no verdict."""
        return sum(take for take, _ in self.verdicts) / max(1, len(self.verdicts))

    @property
    def ignore(self) -> float:
        """Probability; 0 where there is no verdict."""
        return sum(ignore for _, ignore in self.verdicts) / max(1, len(self.verdicts))

    @property
    def keep(self) -> float:
        """Probability that the user goes on; 0 where there is no verdict."""
        return 1 - self.take - self.ignore if self.verdicts else 0.0

    def heard(self, take: float, ignore: float) -> "Opinion":
        """One more chunk of the same silence."""
        return Opinion((*self.verdicts, (take, ignore))[-OPINION_CHUNKS:])


@dataclass(frozen=True)
class Patience:
    """How long the assistant waits. Silences in ms.

    Attributes:
        take: probability of the state head above which the turn ends: after ``EARLY_MS`` of silence by one verdict,
            later by the mean of all.
        likely: above which ``likely_ms`` end it; below, ``unlikely_ms``.
        likely_ms, unlikely_ms: see there.
        silence_ms: ends the turn where no head judges, or dismisses what it thinks calls for no answer.
        confirm_ms: of speech that interrupts a reply; less is a backchannel or a noise.
    """

    take: float
    likely: float
    likely_ms: float
    silence_ms: float
    unlikely_ms: float
    confirm_ms: float

    def silence_needed(self, opinion: Opinion) -> float:
        """How much ends the turn."""
        if not opinion.verdicts:
            return self.silence_ms
        if opinion.take > self.take:
            return EARLY_MS
        return self.likely_ms if opinion.take > self.likely else self.unlikely_ms

    def dismisses(self, opinion: Opinion, quiet_ms: float) -> bool:
        """Whether what was said is over and calls for no answer."""
        doubts = max(opinion.take, LISTENING_ON * opinion.keep)
        return quiet_ms >= self.silence_ms and opinion.take <= self.likely and opinion.ignore > doubts


def patience(config: SessionConfig, take_threshold: float) -> Patience:
    """By eagerness; ``take_threshold`` is the model's own. Under ``silence`` the client's numbers decide."""
    if config.turns == "silence":
        wait = float(config.silence_ms)
        return Patience(2.0, 2.0, wait, wait, wait, 3 * WINDOW_MS)
    take = {"low": take_threshold + 0.5 * (1 - take_threshold), "high": 0.7 * take_threshold}
    sure = take.get(config.eagerness, take_threshold)
    return Patience(sure, LIKELY * sure, *WAITS_MS[config.eagerness])


class AudioBuffer:
    """The newest audio of a session; what lies before ``keep_from`` is forgotten."""

    def __init__(self) -> None:
        self.start = 0  # position of the oldest sample
        self.stop = 0  # position after the newest
        self._pieces: deque[Waveform] = deque()

    def push(self, waveform: Waveform) -> None:
        """The audio goes on."""
        self._pieces.append(waveform)
        self.stop += len(waveform)

    def forget(self, keep_from: int) -> None:
        """Drop whole pieces before a position."""
        while self._pieces and self.start + len(self._pieces[0]) <= keep_from:
            self.start += len(self._pieces.popleft())

    def take(self, first: int, stop: int) -> Waveform:
        """[stop - first] samples; zeros where there is nothing (any more, or yet)."""
        taken = np.zeros(max(0, stop - first), np.float32)
        position = self.start
        for piece in self._pieces:
            low, high = max(first, position), min(stop, position + len(piece))
            if low < high:
                taken[low - first : high - first] = piece[low - position : high - position]
            position += len(piece)
        return taken

"""Words with times in a channel, by any recogniser. Knows nothing of scenes.

pocketsphinx tells when it heard each word; of other recognisers the words of a stretch of sound are spread over it by
their letters. A stretch in which the recogniser finds nothing counts as one unclear word: somebody did speak.
"""

from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray

from icebreaker.evaluation.duplex.metrics import Span, Word
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, PocketSphinx, Recogniser

__all__ = ["UNCLEAR", "sounding", "spread_words", "timed_words"]

UNCLEAR = "(unclear)"
FRAME_S = 0.01
LOUD_DB = -45.0  # of full scale, in a frame's RMS
GAP_S = 0.25  # shorter silence belongs to speech
SHORTEST_S = 0.06  # of sound


def sounding(waveform: NDArray[np.float32], sample_rate: int, gap_s: float = GAP_S) -> list[Span]:
    """Stretches of sound in ``waveform`` [S]."""
    size = round(FRAME_S * sample_rate)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    loud = np.flatnonzero(np.sqrt(np.mean(frames**2, axis=1)) > 10 ** (LOUD_DB / 20))
    spans: list[Span] = []
    for index in loud:
        start, end = float(index) * FRAME_S, float(index + 1) * FRAME_S
        if spans and start - spans[-1].end_s <= gap_s:
            spans[-1] = Span(spans[-1].start_s, end)
        else:
            spans.append(Span(start, end))
    return [span for span in spans if span.end_s - span.start_s >= SHORTEST_S]


def timed_words(recogniser: Recogniser, waveform: NDArray[np.float32], sample_rate: int) -> list[Word]:
    """The words of ``waveform`` [S] and when they are said."""
    words: list[Word] = []
    for span in sounding(waveform, sample_rate):
        piece = waveform[round(span.start_s * sample_rate) : round(span.end_s * sample_rate)]
        at_16k = np.asarray(soxr.resample(piece, sample_rate, RECOGNISER_RATE), dtype=np.float32).clip(-1, 1)
        if isinstance(recogniser, PocketSphinx):
            found = [
                Word(text, span.start_s + start, min(span.end_s, span.start_s + end))
                for text, start, end in recogniser.timed(at_16k)
                if span.start_s + start < span.end_s
            ]
        else:
            found = spread_words(recogniser.transcribe(at_16k).split(), span)
        words += found or [Word(UNCLEAR, *span)]
    return words


def spread_words(texts: Sequence[str], span: Span) -> list[Word]:
    """``texts`` one after the other over ``span``, each as long as its share of the letters."""
    letters = np.cumsum([0, *[len(text) for text in texts]])
    scale = (span.end_s - span.start_s) / max(1, int(letters[-1]))
    edges = span.start_s + scale * letters
    return [Word(text, float(edges[i]), float(edges[i + 1])) for i, text in enumerate(texts)]

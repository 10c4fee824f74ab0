"""A played scene to figures: what is scored depends on its kind. Knows nothing of how it was played.

Every scene gives plain values for JSON; ``None`` is "cannot be said here" and never counts as a success or a failure.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import soxr

from icebreaker.errors import ConfigError
from icebreaker.evaluation.duplex.metrics import (
    TAKEOVER_S,
    Span,
    Word,
    backchannels,
    latency_s,
    longest_s,
    overlap_s,
    stop_s,
    takes_turn,
)
from icebreaker.evaluation.duplex.played import PlayedReply, Recording
from icebreaker.evaluation.duplex.scenes import Scene
from icebreaker.evaluation.duplex.words import sounding
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, ClosedSet
from icebreaker.evaluation.wording import words_of

__all__ = ["heard_words", "leaked", "score"]

HISTORY_TOLERANCE = 1  # words: one may be cut in its middle
CONTENT_LETTERS = 4  # shorter words occur in every reply


def score(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    """Figures of ``scene``; ``words`` are the assistant's, in its channel."""
    common = {
        "underruns": recording.underruns, "failures": len(recording.failures),
        "said": " ".join(word.text for word in words), "replies": [reply.text for reply in recording.replies],
    }  # fmt: skip
    return {**SCORES[scene.kind](scene, recording, words), **common}


def _turn(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    end_s = recording.parts[-1].speech.end_s
    sounds = [reply.audible_s for reply in recording.replies if reply.audible_s is not None]
    sound_s = max(0.0, min(sounds) - end_s) if sounds else None
    return {"tor": takes_turn(words), "latency_s": latency_s(words, end_s), "sound_s": sound_s}


def _held_floor(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    """The user has not finished until the last word: whoever speaks before takes the floor from him."""
    end_s = recording.parts[-1].speech.end_s
    return {"tor": takes_turn([word for word in words if word.start_s < end_s])}


def _monologue(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    speech = recording.parts[-1].speech
    meanwhile = [word for word in words if word.start_s < speech.end_s]
    seconds = speech.end_s - speech.start_s
    return {"tor": longest_s(meanwhile) > TAKEOVER_S, "backchannels": backchannels(meanwhile), "seconds": seconds}


def _interruption(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    place = scene.part("interruption")
    speech = recording.parts[place].speech
    until_s = recording.parts[place + 1].start_s if place + 1 < len(recording.parts) else float("inf")
    after = [word for word in words if speech.end_s <= word.start_s < until_s]
    spans = sounding(recording.assistant, recording.sample_rate)
    met = [span for span in spans if span.start_s < speech.start_s < span.end_s]
    figures: dict[str, Any] = {
        "tor": takes_turn(after),
        "latency_s": latency_s(after, speech.end_s),
        "met_speech": bool(met),
        "overlap_s": overlap_s(met, speech) if met else None,
        "silence_s": stop_s(spans, speech.start_s),
        "response_s": _response_s(recording, speech, until_s),
    }
    cut = _cut_reply(recording, speech.start_s)
    return {**figures, **(_history(scene, recording, cut) if cut is not None else {})}


def _response_s(recording: Recording, speech: Span, until_s: float) -> float | None:
    """From the user's end to the first sound of a reply that was begun after the interruption."""
    sounds = [
        reply.audible_s
        for reply in recording.replies
        if reply.audible_s is not None and reply.created_s > speech.start_s and reply.audible_s < until_s
    ]
    return max(0.0, min(sounds) - speech.end_s) if sounds else None


def _cut_reply(recording: Recording, at_s: float) -> PlayedReply | None:
    """The reply that was cut short by what the user began to say at ``at_s``."""
    cut = [reply for reply in recording.replies if reply.stopped_s is not None and reply.stopped_s >= at_s]
    return next((reply for reply in cut if reply.sounding is not None and reply.sounding.start_s < at_s), None)


def _history(scene: Scene, recording: Recording, cut: PlayedReply) -> dict[str, Any]:
    """Does the system remember as much as was heard?"""
    full = words_of(cut.text).split()
    heard = heard_words(cut.text, cut.sound, recording.sample_rate)
    figures: dict[str, Any] = {"full": cut.text, "kept": cut.kept, "heard_words": heard, "heard_ms": cut.heard_ms}
    if cut.kept is not None:
        kept = words_of(cut.kept).split()
        figures["kept_words"] = len(kept)
        figures["kept_is_beginning"] = kept == full[: len(kept)]
        if heard is not None:
            near = abs(len(kept) - heard) <= HISTORY_TOLERANCE
            figures["history_right"] = near and figures["kept_is_beginning"]
    if any(part.role == "ask back" for part in recording.parts) and heard is not None:
        asked_s = recording.parts[scene.part("ask back")].speech.start_s
        answers = [reply.text for reply in recording.replies if reply.created_s > asked_s]
        if answers:
            others = [reply.text for reply in recording.replies if cut.created_s < reply.created_s <= asked_s]
            figures["leaked"] = leaked(" ".join(answers), full[heard + HISTORY_TOLERANCE :], [*full[:heard], *others])
    return figures


def heard_words(text: str, sound: np.ndarray, sample_rate: int) -> int | None:
    """How many words of ``text`` are in ``sound`` [S], which may be cut anywhere; None where it cannot be said.

    A recogniser chooses among the beginnings of the text.
    """
    words = words_of(text).split()
    if not words:
        return None
    if not len(sounding(sound, sample_rate)):
        return 0
    try:
        recogniser = ClosedSet(" ".join(words[:count]) for count in range(1, len(words) + 1))
    except ConfigError:  # words that the recogniser's dictionary lacks
        return None
    if recogniser.unknown:
        return None
    at_16k = np.asarray(soxr.resample(sound, sample_rate, RECOGNISER_RATE), dtype=np.float32).clip(-1, 1)
    return len(recogniser.transcribe(at_16k).split())


def leaked(answer: str, unheard: list[str], known: list[str]) -> bool:
    """Whether ``answer`` has a word of four letters or more that was never heard and that nobody else had said."""
    free = set(words_of(" ".join(known)).split())
    secret = {word for word in unheard if len(word) >= CONTENT_LETTERS} - free
    return bool(secret & set(words_of(answer).split()))


def _disturbed(role: str) -> Callable[[Scene, Recording, list[Word]], dict[str, Any]]:
    """Something happened while the assistant spoke that it should neither obey nor answer."""

    def figures(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
        at = recording.parts[scene.part(role)].speech
        met = [reply for reply in recording.replies if _sounds_at(reply, at.start_s)]
        later = [reply for reply in recording.replies if reply.created_s > at.start_s]
        return {
            "tried": bool(met),
            "obeyed": any(reply.stopped_s is not None for reply in met) if met else None,
            "answered": any(reply.sounding is not None for reply in later) if met else None,
        }

    return figures


def _sounds_at(reply: PlayedReply, at_s: float) -> bool:
    """Whether the reply sounds then, or was cut by what began just before."""
    return reply.sounding is not None and reply.sounding.start_s < at_s < reply.sounding.end_s


def _noise(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    at_s = recording.parts[0].start_s
    answered = any(reply.sounding is not None and reply.created_s > at_s for reply in recording.replies)
    return {"tried": True, "obeyed": None, "answered": answered}


def _echo(scene: Scene, recording: Recording, words: list[Word]) -> dict[str, Any]:
    """One question, one reply, spoken to its end: anything else answers or obeys its own voice."""
    end_s = recording.parts[0].speech.end_s
    replies = [reply for reply in recording.replies if reply.sounding is not None and reply.sounding.end_s > end_s]
    return {
        "tried": bool(replies),
        "obeyed": replies[0].stopped_s is not None if replies else None,
        "answered": len(replies) > 1 if replies else None,
    }


SCORES: dict[str, Callable[[Scene, Recording, list[Word]], dict[str, Any]]] = {
    "turn": _turn, "pause": _held_floor, "hesitation": _held_floor, "interruption": _interruption,
    "backchannel": _disturbed("backchannel"), "noise": _noise, "noise while speaking": _disturbed("noise"),
    "echo": _echo, "monologue": _monologue,
}  # fmt: skip

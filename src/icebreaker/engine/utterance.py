"""One utterance of the user's on its way to becoming a message. Plain values; knows no detector and no device."""

from dataclasses import dataclass

from icebreaker.engine.hearing import AudioBuffer
from icebreaker.engine.messages import Item

__all__ = ["Heard"]


@dataclass
class Heard:
    """An utterance.

    Attributes:
        item_id: of the message it will become.
        start: position of its first sample.
        fed: position up to which the ears have heard it.
        blob: of its vectors.
        vectors: of them in the slot's keys.
        confirmed: it is meant, and was told of.
        begun: the slot listens.
        aside: it does so beside a reply.
        end: position where it ends, once that is known.
        respond: whether a reply follows.
        chunks: that got a verdict.
        ignores, takes: verdicts in a row.
        told: it began with a ``SpeechStarted``, so it ends with a ``SpeechStopped``.
        item: what a client added, where it is a recording.
        audio: of that recording; None: the microphone's.
    """

    item_id: str
    start: int
    fed: int
    blob: int
    confirmed: bool = False
    begun: bool = False
    aside: bool = False
    vectors: int = 0
    end: int | None = None
    respond: bool = False
    chunks: int = 0
    ignores: int = 0
    takes: int = 0
    told: bool = False
    item: Item | None = None
    audio: AudioBuffer | None = None

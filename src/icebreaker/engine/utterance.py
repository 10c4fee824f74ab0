"""One utterance of the user's on its way to becoming a message. Plain values; knows no detector and no device."""

from dataclasses import dataclass, field

from icebreaker.audio.fbank import CHUNK_SAMPLES
from icebreaker.engine.hearing import AudioBuffer, Opinion
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
        settled: position up to which it is read then, where silence follows.
        respond: whether a reply follows.
        chunks: that got a verdict.
        takes, ignores: verdicts in a row.
        opinion: of the state head, on the present silence.
        interrupts: it cut a reply short, so it is answered, whatever the state head makes of it.
        told: it began with a ``SpeechStarted``, so it ends with a ``SpeechStopped``.
        item: what a client added, where it is a recording.
        audio: of that recording; None: the microphone's.
        counts: vectors that the ears had made after each chunk.
        looks_from: position from which the state head may be asked again before the end of a chunk.
        understood: of so many vectors, the tokens by the second pass.
        guessed_at: ``settled`` as it was when a reply was last begun in case that were all.
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
    settled: int | None = None
    respond: bool = False
    chunks: int = 0
    ignores: int = 0
    takes: int = 0
    opinion: Opinion = field(default_factory=Opinion)
    interrupts: bool = False
    told: bool = False
    item: Item | None = None
    audio: AudioBuffer | None = None
    counts: list[int] = field(default_factory=list)
    looks_from: int = 0
    guessed_at: int | None = None
    understood: tuple[int, tuple[int, ...]] | None = None

    def settles_at(self, position: int) -> int:
        """The first end of a chunk at or after ``position``."""
        return self.start + -(-(position - self.start) // CHUNK_SAMPLES) * CHUNK_SAMPLES

    def vectors_at(self, position: int) -> int:
        """How many vectors the ears had made when they had heard up to there, the end of a chunk."""
        return self.counts[(position - self.start) // CHUNK_SAMPLES - 1]

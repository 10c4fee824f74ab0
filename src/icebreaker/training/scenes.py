"""What the ears may hear, with the right decision for every chunk. Knows nothing of models.

A scene is one utterance as the server sees it: from the voice detector's onset to some silence after the end. Labels
are those of the official state head (arXiv:2411.00774, chunk-level state prediction): listen on, answer, dismiss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from icebreaker.data.manifest import Item
from icebreaker.errors import ConfigError
from icebreaker.training.scene_sounds import (
    DB,
    LogMel,
    Sounds,
    Spoken,
    add_at,
    burst,
    coughs,
    distant,
    loudness,
    quietest,
    silence,
)
from icebreaker.training.speech_batches import SpeechBatch

__all__ = [
    "ANSWER", "ASKING", "CHUNK_FRAMES", "DISMISS", "IGNORE", "KINDS", "LISTEN", "OF_ASIDES", "Kind", "Scene",
    "SceneConfig", "chunk_labels", "scenes",
]  # fmt: skip

CHUNK_FRAMES = 16  # fbank frames of one listening step, 160 ms
LISTEN, ANSWER, DISMISS, IGNORE = 0, 1, 2, 3  # the last is the dummy class, never trained nor predicted
Kind = Literal[
    "question", "pause", "cut", "hesitation", "trailing", "backchannel", "cough", "other", "echo", "babble", "noise",
    "backwards",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)
ASKING = ("question", "pause", "hesitation", "trailing")  # a question ends in these
OF_ASIDES = ("hesitation", "backchannel", "other", "echo")  # need recordings of ``data/asides.py``
COURTESIES = {"please", "thanks", "thank", "you"}  # what comes before them is complete
SEARCH_FRAMES = 18  # around the estimated end of a word, for the quietest place


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Shares of the kinds of scene (the rest are whole questions), and when a decision is due.

    Recordings end 0.1 s after their last sound, so ``patience_frames = 8`` decides 0.18 s after a speaker's last sound.
    """

    pause: float = 0.15  # a silence between two words, the rest, then the answer is due
    cut: float = 0.1  # a silence between two words, and nothing more
    hesitation: float = 0.0  # an um before such a silence
    trailing: float = 0.08  # noise or another voice begins when the question ends
    backchannel: float = 0.0
    cough: float = 0.05
    other: float = 0.0  # another voice in the room, alone
    echo: float = 0.0  # the assistant's own voice
    babble: float = 0.08
    noise: float = 0.08
    backwards: float = 0.04
    asides: str | None = None  # manifest of ``icebreaker data asides``
    aside_features: str | None = None
    pause_frames: tuple[int, ...] = (30, 170)  # 10 ms each
    tail_frames: tuple[int, ...] = (64, 128)  # silence after the end
    patience_frames: int = 8  # from the end of a recording to the first chunk that should decide
    grace_frames: int = 0  # until then it counts as speech; chunks in between have no label

    def __post_init__(self) -> None:
        if not 0 <= sum(self.shares.values()) <= 1:
            raise ValueError(f"the shares of scenes add up to {sum(self.shares.values()):.2f}; at most 1")
        needy = [kind for kind in OF_ASIDES if getattr(self, kind) > 0]
        if needy and not (self.asides and self.aside_features):
            raise ValueError(f"{needy[0]} needs asides and aside_features; run `icebreaker data asides` and `features`")

    @property
    def shares(self) -> dict[Kind, float]:
        """Of every kind but whole questions."""
        return {kind: getattr(self, kind) for kind in KINDS if kind != "question"}

    def draw(self, rng: np.random.Generator) -> Kind:
        """A kind at its share."""
        edges = np.cumsum(list(self.shares.values()))
        place = int(np.searchsorted(edges, rng.random(), side="right"))
        return KINDS[place + 1] if place < len(edges) else "question"


@dataclass(frozen=True)
class Scene:
    """One row: its features, what it is, and a label per chunk."""

    fbank: Tensor  # [T, 80], T a multiple of CHUNK_FRAMES
    kind: Kind
    labels: Tensor  # [T // CHUNK_FRAMES]
    speech_end: int  # fbank frame


def chunk_labels(frames: int, speech_end: int, decision: int, config: SceneConfig) -> Tensor:
    """Listen while there is speech, nothing for a moment, ``decision`` after ``patience_frames`` of silence."""
    ends = torch.arange(1, frames // CHUNK_FRAMES + 1) * CHUNK_FRAMES
    labels = torch.full_like(ends, IGNORE)
    labels[ends <= speech_end + config.grace_frames] = LISTEN
    labels[ends >= speech_end + config.patience_frames] = decision
    return labels


def scenes(batch: SpeechBatch, config: SceneConfig, sounds: Sounds | None, kind: Kind | None = None) -> list[Scene]:
    """A scene for every row of ``batch``, drawn from the batch's own seed; all of one ``kind`` where that is given.

    A sentence too short to be cut becomes a whole question, whatever was drawn.

    Raises:
        ConfigError: the kind needs recordings that are not there.
    """
    rng, maker = batch.rng(7), _Maker(batch, config, sounds)
    return [maker.scene(row, config.draw(rng) if kind is None else kind, rng) for row in range(len(batch.items))]


@dataclass(frozen=True)
class _Maker:
    batch: SpeechBatch
    config: SceneConfig
    sounds: Sounds | None

    def scene(self, row: int, kind: Kind, rng: np.random.Generator) -> Scene:
        spoken = self.spoken(row)
        if kind in ("pause", "cut", "hesitation") and _places(self.batch.items[row]) is None:
            kind = "question"
        make: dict[Kind, Callable[[Spoken, int, np.random.Generator], Spoken]] = {
            "pause": self.paused, "cut": self.cut, "hesitation": self.hesitating, "trailing": self.trailing,
            "backchannel": self.backchannel, "cough": self.cough, "other": self.other, "echo": self.echo,
            "babble": self.babble, "noise": self.noise, "backwards": self.backwards,
        }  # fmt: skip
        heard = make[kind](spoken, row, rng) if kind in make else self.ended(spoken, rng)
        frames = max(1, len(heard.fbank) // CHUNK_FRAMES) * CHUNK_FRAMES
        fbank = np.concatenate([heard.fbank, silence(heard, max(0, frames - len(heard.fbank)), rng)])[:frames]
        decision = LISTEN if kind == "cut" else ANSWER if kind in ASKING else DISMISS
        labels = chunk_labels(frames, heard.end, decision, self.config)
        labels = torch.full_like(labels, LISTEN) if kind == "cut" else labels
        return Scene(torch.from_numpy(fbank.astype(np.float32, copy=False)), kind, labels, heard.end)

    def spoken(self, row: int) -> Spoken:
        batch = self.batch
        fbank = batch.fbank[row, : int(batch.lengths[row])].numpy()
        return Spoken(fbank, batch.speech_starts[row], batch.speech_ends[row])

    def ended(self, spoken: Spoken, rng: np.random.Generator) -> Spoken:
        """The same with a tail of silence as long as the configuration has it."""
        low, high = self.config.tail_frames
        tail = int(rng.integers(low, high + 1))
        kept = spoken.fbank[: spoken.end + tail]
        more = silence(spoken, spoken.end + tail - len(kept), rng)
        return Spoken(np.concatenate([kept, more]), spoken.start, spoken.end)

    def alone(self, sound: LogMel, room: Spoken, rng: np.random.Generator) -> Spoken:
        """Only ``sound``, in the silence of the room."""
        frames = room.start + len(sound) + int(rng.integers(self.config.tail_frames[0], self.config.tail_frames[1] + 1))
        return Spoken(add_at(silence(room, frames, rng), sound, room.start, rng), room.start, room.start + len(sound))

    def paused(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        return self.ended(self.interrupted(spoken, row, [], rng), rng)

    def hesitating(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        um = self.recordings("hesitation").draw("filler", rng)
        level = loudness(spoken.speech) - loudness(um.speech) - DB * rng.uniform(0, 6)
        gap = silence(spoken, int(rng.integers(2, 12)), rng)
        um_here = add_at(silence(spoken, um.end - um.start, rng), um.speech + np.float32(level), 0, rng)
        return self.ended(self.interrupted(spoken, row, [gap, um_here], rng), rng)

    def interrupted(self, spoken: Spoken, row: int, between: list[LogMel], rng: np.random.Generator) -> Spoken:
        """The sentence with a pause between two of its words, after the sounds ``between``."""
        at = self.place(spoken, row, rng)
        pause = silence(spoken, int(rng.integers(self.config.pause_frames[0], self.config.pause_frames[1] + 1)), rng)
        fbank = np.concatenate([spoken.fbank[:at], *between, pause, spoken.fbank[at:]])
        return Spoken(fbank, spoken.start, spoken.end + len(fbank) - len(spoken.fbank))

    def cut(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        at = self.place(spoken, row, rng)
        pause = silence(spoken, int(rng.integers(self.config.pause_frames[0], self.config.pause_frames[1] + 1)), rng)
        return Spoken(np.concatenate([spoken.fbank[:at], pause]), spoken.start, at)

    def place(self, spoken: Spoken, row: int, rng: np.random.Generator) -> int:
        """A quiet frame near the end of a word that is not the last, by its share of the letters."""
        shares = _places(self.batch.items[row])
        assert shares
        at = spoken.start + round((spoken.end - spoken.start) * shares[int(rng.integers(len(shares)))])
        return quietest(
            spoken.fbank, max(spoken.start + 5, at - SEARCH_FRAMES), min(spoken.end - 5, at + SEARCH_FRAMES)
        )

    def trailing(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        ended = self.ended(spoken, rng)
        at, level = ended.end + int(rng.integers(0, 25)), loudness(spoken.speech) - DB * rng.uniform(10, 25)
        if self.sounds is not None and rng.random() < 0.5:
            voice = distant(self.sounds.draw("other", rng).speech, rng, (12.0, 25.0))
            return Spoken(add_at(ended.fbank, voice, at, rng), ended.start, ended.end)
        noise = coughs(rng, level) if rng.random() < 0.5 else burst(100, 0, 100, rng)
        return Spoken(add_at(ended.fbank, noise - max(0.0, loudness(noise) - level), at, rng), ended.start, ended.end)

    def backchannel(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        said = self.recordings("backchannel").draw("backchannel", rng)
        room = Spoken(said.fbank, min(said.start, spoken.start), said.end)
        return self.alone(said.speech - np.float32(DB * rng.uniform(-3, 12)), room, rng)

    def cough(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        return self.alone(coughs(rng, loudness(spoken.speech) - DB * rng.uniform(-6, 12)), spoken, rng)

    def other(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        voice = self.recordings("other").draw("other", rng).speech
        if rng.random() < 0.4:  # questions too: what is said does not give a distant voice away
            voice = self.spoken(int(rng.integers(len(self.batch.items)))).speech
        return self.alone(distant(voice, rng, (15.0, 30.0)), spoken, rng)

    def echo(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        voice = self.recordings("echo").draw("echo", rng).speech
        return self.alone(distant(voice, rng, (8.0, 30.0), echo=True), spoken, rng)

    def babble(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        mixed = spoken
        for _ in range(int(rng.integers(2, 5))):
            voice = self.spoken(int(rng.integers(len(self.batch.items)))).speech
            span = min(spoken.end - spoken.start, len(voice))
            turned = np.roll(voice, int(rng.integers(len(voice))), axis=0)[:span]
            mixed = Spoken(add_at(mixed.fbank, turned, spoken.start, rng), spoken.start, spoken.end)
        return self.ended(mixed, rng)

    def noise(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        frames = spoken.end - spoken.start
        return self.alone(burst(frames, 0, frames, rng), spoken, rng)

    def backwards(self, spoken: Spoken, row: int, rng: np.random.Generator) -> Spoken:
        pieces = [spoken.fbank[: spoken.start], spoken.speech[::-1], spoken.fbank[spoken.end :]]
        return self.ended(Spoken(np.concatenate(pieces), spoken.start, spoken.end), rng)

    def recordings(self, kind: Kind) -> Sounds:
        if self.sounds is None:
            raise ConfigError(f"scenes.{kind} needs scenes.asides and scenes.aside_features")
        return self.sounds


def _places(item: Item) -> list[float] | None:
    """Where words end, as shares of the speech, by letters; not the last one, nor one before mere courtesies."""
    words = item.text.split()
    while words and words[-1] in COURTESIES:
        words.pop()
    if len(words) < 3:
        return None
    ends, total = np.cumsum([len(word) + 1 for word in words]), len(item.text) + 1
    return [float(end) / total for end in ends[max(1, len(words) // 3) - 1 : -1]]

"""Builds scenes from spoken questions: pauses are cut in, interruptions, backchannels, noise and echo are added.

The questions come from a manifest (the split and voices that no stage heard); what is not in it (um, uh-huh) is spoken
by the same synthesiser. Everything is a function of the seed.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.data.augment import babble, band_limit, pink_noise, white_noise
from icebreaker.data.manifest import Item
from icebreaker.errors import DataError
from icebreaker.evaluation.duplex.metrics import SHORT_WORDS, Word
from icebreaker.evaluation.duplex.scenes import Cue, Echo, Part, Scene, write_scenes
from icebreaker.evaluation.duplex.words import sounding
from icebreaker.evaluation.question_sets import spread
from icebreaker.evaluation.recordings import HELD_OUT, KNOWN, recording_of
from icebreaker.extras import load_extra
from icebreaker.training.align_words import align

__all__ = ["BuildConfig", "build_scenes"]

Waveform = NDArray[np.float32]
Rng = np.random.Generator
BACKCHANNELS = ("uh huh", "yeah", "right", "okay", "mhm")
HESITATIONS = ("um", "uh")
ASK_BACK = "What did you just say?"
CLOSE_S = 0.05  # of silence kept where a sentence is cut


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """How many scenes, and between which bounds.

    Attributes:
        per_kind: scenes of each kind.
        pause_s: of pauses in the middle of a sentence.
        speaking_s: of the answer heard when something interrupts it.
        noise_db: RMS of noise, of full scale.
        echo_ms: delays of the assistant's own voice.
        echo_db: its levels.
        ask_back: whether interruptions are followed by "What did you just say?".
        seed: of every choice.
    """

    per_kind: int = 20
    pause_s: tuple[float, float] = (0.6, 1.6)
    speaking_s: tuple[float, float] = (0.5, 1.2)
    noise_db: tuple[float, float] = (-35.0, -22.0)
    echo_ms: tuple[float, ...] = (60.0, 150.0, 300.0)
    echo_db: tuple[float, ...] = (-30.0, -20.0, -12.0)
    ask_back: bool = True
    seed: int = 0


def build_scenes(
    items: Sequence[Item],
    out: Path,
    config: BuildConfig,
    *,
    talkers: Sequence[Path] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Scene]:
    """Write scenes with recordings under ``out``; what is there already is not made again.

    Args:
        items: spoken questions, with their texts; those whose written answer is too short to count as a turn stay out.
        out: the folder; ``scenes.jsonl`` appears in it when all is done.
        config: how many, and how.
        talkers: recordings of other people, for babble; without them there is none.
        progress: called with scenes done and their total.

    Raises:
        DataError: there are too few questions.
    """
    items = [item for item in items if item.answer is None or len(item.answer.split()) > SHORT_WORDS]
    if len(items) < 2:
        raise DataError(
            f"expected at least two spoken questions to build scenes from, got {len(items)}; an answer of "
            f"{SHORT_WORDS} words or fewer cannot be told from an uh-huh, so questions for one do not count"
        )
    builder = _Builder(spread(items, 3 * config.per_kind), out, config, talkers)
    scenes, total = list[Scene](), config.per_kind * len(builder.kinds)
    for kind, make in builder.kinds.items():
        for number in range(config.per_kind):
            scenes.append(make(f"{kind.replace(' ', '-')}-{number:03d}", kind, number))
            progress(len(scenes), total)
    write_scenes(out / "scenes.jsonl", scenes)
    return scenes


class _Builder:
    def __init__(self, items: Sequence[Item], out: Path, config: BuildConfig, talkers: Sequence[Path]) -> None:
        self.out, self.config, self.talkers = out, config, sorted(talkers)
        self.decoder = load_extra("pocketsphinx").Decoder(lm=None, loglevel="FATAL")
        self.items = list(items)
        self.aligned: dict[str, tuple[Word, ...]] = {}
        self.kinds: dict[str, Callable[[str, str, int], Scene]] = {
            "turn": self._turn, "pause": self._pause, "hesitation": self._pause, "interruption": self._interruption,
            "backchannel": self._backchannel, "noise": self._noise, "noise while speaking": self._noise_over_speech,
            "echo": self._echo, "monologue": self._monologue,
        }  # fmt: skip

    def _turn(self, name: str, kind: str, number: int) -> Scene:
        item = self._item(number)
        return Scene(id=name, kind=kind, parts=(self._question(item),), voice=item.voice)

    def _pause(self, name: str, kind: str, number: int) -> Scene:
        """One sentence cut between two of its words; the halves are as natural as the sentence."""
        item, words = self._divisible(number)
        rng = self._rng(name)
        middle = int(rng.integers(max(1, len(words) // 3), max(2, len(words) - 1)))
        cut_s = (words[middle - 1].end_s + words[middle].start_s) / 2
        sentence = load_audio(item.audio, SAMPLE_RATE)
        cut = round(cut_s * SAMPLE_RATE)
        first, first_words = sentence[:cut], words[:middle]
        if kind == "hesitation":
            um = load_audio(self._said(str(rng.choice(HESITATIONS)), item), SAMPLE_RATE)
            start = len(first) / SAMPLE_RATE + CLOSE_S
            first = np.concatenate([first, np.zeros(round(CLOSE_S * SAMPLE_RATE), np.float32), um])
            spans = sounding(um, SAMPLE_RATE)
            first_words = (*first_words, Word("um", start + spans[0].start_s, start + spans[-1].end_s))
        pause_s = float(rng.uniform(*self.config.pause_s))
        again = len(first) / SAMPLE_RATE + pause_s
        rest = tuple(Word(word.text, word.start_s - cut_s, word.end_s - cut_s) for word in words[middle:])
        parts = (
            Part(role="question", audio=self._keep(f"{name}-1", _faded(first)), words=tuple(first_words)),
            Part(role="rest", audio=self._keep(f"{name}-2", _faded(sentence[cut:])), words=rest, cue=Cue(at_s=again)),
        )
        return Scene(id=name, kind=kind, parts=parts, voice=item.voice, about=f"{pause_s:.1f} s")

    def _interruption(self, name: str, kind: str, number: int) -> Scene:
        item, other = self._item(number), self._same_voice(number)
        second = self._question(other, role="interruption", cue=self._while_speaking(name))
        parts = [self._question(item), second]
        if self.config.ask_back:
            audio = self._said(ASK_BACK, item)
            words = self._bounds(audio, ASK_BACK)
            parts.append(Part(role="ask back", audio=audio, words=words, cue=Cue(silent_s=0.6)))
        return Scene(id=name, kind=kind, parts=tuple(parts), voice=item.voice)

    def _backchannel(self, name: str, kind: str, number: int) -> Scene:
        item, text = self._item(number), BACKCHANNELS[number % len(BACKCHANNELS)]
        audio = self._said(text, item)
        part = Part(role="backchannel", audio=audio, words=self._bounds(audio, text), cue=self._while_speaking(name))
        return Scene(id=name, kind=kind, parts=(self._question(item), part), tail_s=4.0, voice=item.voice, about=text)

    def _noise(self, name: str, kind: str, number: int) -> Scene:
        about, audio = self._some_noise(name, number)
        part = Part(role="noise", audio=audio, cue=Cue(at_s=0.5))
        return Scene(id=name, kind=kind, parts=(part,), tail_s=3.0, about=about)

    def _noise_over_speech(self, name: str, kind: str, number: int) -> Scene:
        item = self._item(number)
        about, audio = self._some_noise(name, number)
        part = Part(role="noise", audio=audio, cue=self._while_speaking(name))
        return Scene(id=name, kind=kind, parts=(self._question(item), part), tail_s=4.0, voice=item.voice, about=about)

    def _echo(self, name: str, kind: str, number: int) -> Scene:
        item, config = self._item(number), self.config
        delay = config.echo_ms[number % len(config.echo_ms)]
        level = config.echo_db[number // len(config.echo_ms) % len(config.echo_db)]
        return Scene(
            id=name, kind=kind, parts=(self._question(item),), tail_s=8.0, voice=item.voice,
            echo=Echo(delay_ms=delay, level_db=level), about=f"{delay:g} ms, {level:g} dB",
        )  # fmt: skip

    def _monologue(self, name: str, kind: str, number: int) -> Scene:
        """Sentence after sentence, with the short breaths of somebody who goes on."""
        rng, item = self._rng(name), self._item(number)
        pieces, words, at = list[Waveform](), list[Word](), 0.0
        for step in range(4):
            each = self._same_voice(number, step)
            spoken, gap_s = load_audio(each.audio, SAMPLE_RATE), float(rng.uniform(0.15, 0.35))
            words += [Word(word.text, at + word.start_s, at + word.end_s) for word in self._words(each)]
            pieces += [spoken, np.zeros(round(gap_s * SAMPLE_RATE), np.float32)]
            at += (len(pieces[-2]) + len(pieces[-1])) / SAMPLE_RATE
        audio = self._keep(name, np.concatenate(pieces))
        part = Part(role="question", audio=audio, words=tuple(words))
        return Scene(id=name, kind=kind, parts=(part,), tail_s=2.0, voice=item.voice)

    def _item(self, number: int) -> Item:
        return self.items[number % len(self.items)]

    def _same_voice(self, number: int, step: int = 0) -> Item:
        """Another question by the speaker of question ``number``."""
        item = self._item(number)
        others = [each for each in self.items if each.voice == item.voice and each.text != item.text] or [item]
        return others[(number * 7 + step) % len(others)]

    def _divisible(self, number: int) -> tuple[Item, tuple[Word, ...]]:
        """A question whose words can be told apart."""
        for offset in range(len(self.items)):
            item = self._item(number + offset)
            if len(words := self._words(item)) >= 3:
                return item, words
        raise DataError("no question of three words or more could be aligned; give others")

    def _words(self, item: Item) -> tuple[Word, ...]:
        """Words and their times, or one word for all of it where the aligner cannot follow."""
        if item.id not in self.aligned:
            bounds = self._bounds(item.audio, item.text)
            found = align(self.decoder, item)
            start, end = bounds[0].start_s, bounds[-1].end_s
            words = [
                Word(item.text[each.first : each.last], max(start, each.start_s), min(end, each.end_s))
                for each in found or ()
            ]
            sane = words and all(word.start_s < word.end_s for word in words)
            self.aligned[item.id] = tuple(words) if sane else bounds
        return self.aligned[item.id]

    def _bounds(self, audio: Path, text: str) -> tuple[Word, ...]:
        spans = sounding(load_audio(audio, SAMPLE_RATE), SAMPLE_RATE)
        if not spans:
            raise DataError(f"{audio}: expected speech, got silence; record it again")
        return (Word(text, spans[0].start_s, spans[-1].end_s),)

    def _question(self, item: Item, role: str = "question", cue: Cue | None = None) -> Part:
        return Part(role=role, audio=item.audio, words=self._words(item), cue=cue or Cue(at_s=0.3))

    def _while_speaking(self, name: str) -> Cue:
        return Cue(speaking_s=float(self._rng(f"{name}|cue").uniform(*self.config.speaking_s)))

    def _said(self, text: str, item: Item) -> Path:
        """``text`` in the item's own voice where that is a synthesiser's, else in one that no stage heard."""
        voice = item.voice if item.voice in KNOWN else HELD_OUT[0]
        return recording_of(text, voice, self.out / "said")

    def _some_noise(self, name: str, number: int) -> tuple[str, Path]:
        makers: dict[str, Callable[[Rng], Waveform]] = {
            "white": lambda rng: white_noise(rng, _samples(rng)), "pink": lambda rng: pink_noise(rng, _samples(rng)),
            "cough": _cough, "knock": _knock,
        }  # fmt: skip
        if self.talkers:
            makers["babble"] = self._babble
        kind = list(makers)[number % len(makers)]
        rng = self._rng(f"{name}|noise")
        sound = _faded(makers[kind](rng))
        level_db = float(rng.uniform(*self.config.noise_db))
        rms = float(np.sqrt(np.mean(sound**2)))
        return kind, self._keep(f"{name}-noise", sound * np.float32(10 ** (level_db / 20) / rms))

    def _babble(self, rng: Rng) -> Waveform:
        chosen = [self.talkers[int(index)] for index in rng.integers(len(self.talkers), size=4)]
        return babble(rng, [load_audio(path, SAMPLE_RATE) for path in chosen], _samples(rng))

    def _keep(self, name: str, waveform: Waveform) -> Path:
        path = self.out / "parts" / f"{re.sub(r'[^A-Za-z0-9-]', '-', name)}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_wav(path, waveform.clip(-1, 1), SAMPLE_RATE)
        return path

    def _rng(self, name: str) -> Rng:
        digest = hashlib.sha256(f"{self.config.seed}|{name}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def _samples(rng: Rng) -> int:
    return round(float(rng.uniform(0.8, 2.0)) * SAMPLE_RATE)


def _cough(rng: Rng) -> Waveform:
    """Two or three bursts of coarse breath: a hard attack, a fall within a quarter of a second."""
    bursts = list(_bursts(rng, int(rng.integers(2, 4)), fall_s=0.06, length_s=0.28))
    return band_limit(np.concatenate(bursts), 250.0, 4500.0, SAMPLE_RATE)


def _knock(rng: Rng) -> Waveform:
    """A door or a cup: short dull bursts."""
    bursts = list(_bursts(rng, int(rng.integers(2, 5)), fall_s=0.015, length_s=0.2))
    return band_limit(np.concatenate(bursts), 60.0, 1200.0, SAMPLE_RATE)


def _bursts(rng: Rng, count: int, *, fall_s: float, length_s: float) -> Iterator[Waveform]:
    for _ in range(count):
        times = np.arange(round(length_s * rng.uniform(0.8, 1.2) * SAMPLE_RATE)) / SAMPLE_RATE
        shape = np.minimum(1.0, times / 0.008) * np.exp(-times / (fall_s * rng.uniform(0.8, 1.3)))
        yield np.asarray(shape * pink_noise(rng, len(times)), dtype=np.float32)


def _faded(sound: Waveform) -> Waveform:
    """Without clicks at its ends."""
    ramp = np.minimum(1.0, np.arange(len(sound)) / (0.01 * SAMPLE_RATE)).astype(np.float32)
    return np.asarray(sound * ramp * ramp[::-1], dtype=np.float32)

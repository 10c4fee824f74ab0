"""Scripts of recordings to audio files and a manifest. Knows nothing of where the sentences come from.

Can be stopped and called again: a recording's name is a hash of how it is made, what exists is kept, files and
manifest appear complete (written aside, then renamed).
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import soundfile

from icebreaker.data.aside import written_aside
from icebreaker.data.manifest import Item, write_manifest
from icebreaker.data.spread import Spread, here
from icebreaker.data.synthesis import Utterance, Voice, Waveform, synthesise

__all__ = ["Progress", "Script", "record", "save_flac", "seconds_of"]

Progress = Callable[[int, int], None]  # done, total
GROUP = 40  # utterances a synthesiser call
PARTIAL_SHARE = 0.25  # of the recordings stand in a first manifest, so that training can begin


@dataclass(frozen=True, kw_only=True)
class Script:
    """One recording to be made."""

    text: str
    split: str
    voice: Voice
    transcript: str | None = None  # what the manifest says, where that is not ``text``
    speed: float = 1.0
    pitch: float = 1.0
    answer: str | None = None
    conversation: str | None = None

    @property
    def id(self) -> str:
        """A name that says how the recording is made, so that an existing file is the right file."""
        recipe = f"{self.voice.name}|{self.voice.tempo:.4f}|{self.speed:.4f}|{self.pitch:.4f}|{self.text}"
        return f"{self.split}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"


def record(
    scripts: Sequence[Script], out: Path, sample_rate: int, workers: int, progress: Progress, spread: Spread = here
) -> int:
    """Make the recordings that are missing under ``out/audio``, then write ``out/manifest.jsonl``.

    Where ``spread`` has other machines, they have to see ``out`` too.

    Returns:
        The number of recordings in the manifest.
    """
    scripts = list({script.id: script for script in scripts}.values())
    manifest = out / "manifest.jsonl"
    first = round(len(scripts) * PARTIAL_SHARE)
    done = 0
    for stage in (scripts[:first], scripts[first:]):
        missing = [script for script in stage if not _path(out, script).exists()]
        done += len(stage) - len(missing)
        for made in spread(partial(_record_group, out.absolute(), sample_rate), _by_voice(missing), workers):
            done += made
            progress(done, len(scripts))
        if done == len(scripts) or not manifest.exists():
            write_manifest(manifest, [_item(out, script) for script in scripts[:done]])
    return len(scripts)


def save_flac(path: Path, waveform: Waveform, sample_rate: int) -> None:
    """Write 16-bit FLAC aside, then put it in place.

    Raises:
        DataError: the disk is full; nothing half-written stays.
    """
    encoded = io.BytesIO()  # libsndfile does not tell when the end of a short file could not be written
    soundfile.write(encoded, waveform, sample_rate, format="FLAC", subtype="PCM_16")
    with written_aside(path) as aside:
        aside.write_bytes(encoded.getbuffer())


def seconds_of(path: Path) -> float:
    """Length of an audio file in seconds, from its header."""
    return round(float(soundfile.info(path).duration), 4)


def _by_voice(scripts: Iterable[Script]) -> Iterator[list[Script]]:
    voices: dict[str, list[Script]] = {}
    for script in scripts:
        voices.setdefault(script.voice.name, []).append(script)
    for group in voices.values():
        for start in range(0, len(group), GROUP):
            yield group[start : start + GROUP]


def _record_group(out: Path, sample_rate: int, group: list[Script]) -> int:
    missing = [script for script in group if not _path(out, script).exists()]  # a worker may have died half-way
    utterances = [Utterance(text=script.text, speed=script.speed, pitch=script.pitch) for script in missing]
    for script, waveform in zip(missing, synthesise(group[0].voice, utterances, sample_rate), strict=True):
        save_flac(_path(out, script), waveform, sample_rate)
    return len(group)


def _path(out: Path, script: Script) -> Path:
    return out / "audio" / f"{script.id}.flac"


def _item(out: Path, script: Script) -> Item:
    path = _path(out, script)
    return Item(
        id=script.id,
        audio=path,
        seconds=seconds_of(path),
        text=script.transcript or script.text,
        answer=script.answer,
        voice=script.voice.name,
        split=script.split,
        conversation=script.conversation,
    )

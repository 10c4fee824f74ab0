"""Tiny spoken data for the tests of the input stages: each letter of a text is a tone of its own."""

from pathlib import Path

import numpy as np
import soundfile

from icebreaker.data.features import build_features
from icebreaker.data.manifest import Item, write_manifest

TEXTS = ["abba", "cab", "bad cab", "dad", "add", "a bad dad", "baa", "dab"]
RATE = 16000


def spoken(text: str, rng: np.random.Generator) -> np.ndarray:
    times = np.arange(RATE * 12 // 100) / RATE  # 120 ms a letter
    tones = [0 * times if c == " " else np.sin(2 * np.pi * (300 + 350 * (ord(c) - ord("a"))) * times) for c in text]
    waveform = np.concatenate([np.concatenate([tone, np.zeros(640)]) for tone in tones])
    return (0.3 * waveform + rng.normal(0, 1e-3, len(waveform))).astype(np.float32)


def write_questions(folder: Path, *, repeats: int = 2) -> tuple[str, str]:
    """A manifest of answered questions with stored features; returns both paths."""
    rng, items = np.random.default_rng(0), []
    (folder / "audio").mkdir(parents=True)
    for number in range(repeats * len(TEXTS)):
        text = TEXTS[number % len(TEXTS)]
        path, waveform = folder / "audio" / f"{number}.wav", spoken(text, rng)
        soundfile.write(path, waveform, RATE)
        split = "valid" if number >= repeats * len(TEXTS) - 4 else "train"
        items.append(
            Item(
                id=f"q{number}",
                audio=path,
                seconds=len(waveform) / RATE,
                text=text,
                answer=f"Say {text}.",
                split=split,
                voice=f"{split} voice",
            )
        )
    manifest, features = folder / "manifest.jsonl", folder / "features"
    write_manifest(manifest, items)
    build_features(manifest, features)
    return str(manifest), str(features)

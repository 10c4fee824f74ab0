"""Tiny spoken questions with answers and units, and tiny ears, for the tests of LLaMA-Omni's stages."""

import json
from pathlib import Path

import numpy as np
import speech
import tiny_folder
import torch

from icebreaker.config import to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.training.stage_files import save_stage

ENCODER = EncoderConfig(
    subsampling_dim=8, width=12, heads=2, feed_forward_dim=16, layers=1, position_encoding="abs-enc", dropout=0.0,
    positional_dropout=0.0,
)  # fmt: skip
UNITS = 5


def write(folder: Path) -> None:
    """``llm``, ``encoder``, ``questions/manifest.jsonl`` and ``units.jsonl`` under ``folder``."""
    tiny_folder.write_llm(folder / "llm")
    manifest, _ = speech.write_questions(folder / "questions")
    torch.manual_seed(0)
    (folder / "encoder").mkdir()
    save_stage(folder / "encoder", {"encoder": Encoder(ENCODER)}, {"encoder": to_mapping(ENCODER)})
    with (folder / "units.jsonl").open("w") as file:
        for item in read_manifest(Path(manifest)):
            units = units_of(item.answer or "")
            file.write(json.dumps({"id": item.id, "units": units, "durations": [1] * len(units)}) + "\n")


def units_of(text: str) -> list[int]:
    """A unit for each letter, told by the letter."""
    return [int(u) for u in np.frombuffer(text.encode(), dtype=np.uint8) % UNITS]

"""The official tiny checkpoints as dialogue parts, with the settings the golden runs were made with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.checkpoints.find import load_parts
from icebreaker.dialogue import Parts
from icebreaker.dialogue.parts import WaveOutConfig
from icebreaker.duplex import DuplexConfig
from icebreaker.models.sampling import GREEDY
from icebreaker.text.segment import SegmenterConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
NEVER = DuplexConfig(take_threshold=1.0, ignore_threshold=1.0)  # the caller ends the turn


@pytest.fixture(scope="session")
def parts() -> Parts:
    return load_parts(GOLDEN / "checkpoints", GOLDEN / "llm")


@pytest.fixture(scope="session")
def offline(parts: Parts) -> Parts:
    """As the official offline script was run."""
    wave_out = WaveOutConfig(rule="official", first_chunk=40, chunk=40, first_threshold=0.01, threshold=0.01)
    return replace(
        parts,
        settings=replace(
            parts.settings, text=GREEDY, speech=GREEDY, duplex=NEVER, wave_out=wave_out, max_text_tokens=128,
            segmenter=SegmenterConfig(rule="official_offline"), preroll_chunks=0, mask_special_codes=False,
        ),
    )  # fmt: skip


@pytest.fixture(scope="session")
def server(parts: Parts) -> Parts:
    """As the official server was run; one code a step, so that a packet is a step's audio."""
    settings = replace(parts.settings, text=GREEDY, speech=GREEDY, codes_per_step=1, mask_special_codes=False)
    return replace(parts, settings=settings)


@pytest.fixture(scope="session")
def exact(offline: Parts) -> Parts:
    """Our own way to speak, on the same weights."""
    settings = replace(offline.settings, wave_out=WaveOutConfig(), spoken="plain", mask_special_codes=True)
    return replace(offline, settings=replace(settings, segmenter=SegmenterConfig(), max_codes=60, max_text_tokens=20))


@pytest.fixture(scope="session")
def question() -> Tensor:
    """[21, 2560] the golden utterance in chunks, padded with silence."""
    pcm = np.load(GOLDEN / "inputs" / "wav16k.npz")["pcm"]
    waveform = torch.from_numpy(pcm.astype(np.float32) / 32768)
    return torch.nn.functional.pad(waveform, (0, -len(waveform) % 2560)).view(-1, 2560)


@pytest.fixture(scope="session")
def e2e() -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((GOLDEN / "expected" / "e2e.json").read_text())
    return expected

"""The tiny official LLaMA-Omni of the stored vectors, in our form."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icebreaker.audio.pcm import load_audio
from icebreaker.audio.whisper_mel import MAX_SAMPLES
from icebreaker.checkpoints.llama_omni import load_llama_omni
from icebreaker.dialogue.parts import OmniParts

OMNI = Path(__file__).parents[1] / "golden" / "llama-omni-tiny"
MODEL, SHARDED, VOCODER = OMNI / "Llama-3.1-8B-Omni", OMNI / "Llama-3.1-8B-Omni-sharded", OMNI / "vocoder"
SPEECH_ENCODER = OMNI / "models" / "speech_encoder" / "large-v3.pt"
OMEGAS = ("1", "5", "10", "20", "40", "60", "80", "100", "inf")


@cache
def omni_parts() -> OmniParts:
    with torch.inference_mode(False):  # whoever asks first, its weights may learn later
        return load_llama_omni(MODEL, SPEECH_ENCODER, VOCODER)


def arrays(name: str) -> dict[str, Tensor]:
    with np.load(OMNI / "golden" / f"{name}.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


def facts(name: str) -> Any:
    return json.loads((OMNI / "golden" / f"{name}.json").read_text())


def waveform(case: str) -> Tensor:
    """[S] of a recorded question, cut to 30 s as the official front end does."""
    return torch.from_numpy(np.asarray(load_audio(OMNI / "audio" / f"{case}.wav", 16_000)))[:MAX_SAMPLES]

"""Frozen ears of LLaMA-Omni's stages: waveforms to encoder frames. Knows nothing of adaptors or LLMs.

Whisper's encoder hears 30 s of padded sound, one of our own hears as much as there is, chunk by chunk as when deployed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from icebreaker.audio.fbank import HOP_LENGTH, SAMPLE_RATE, Fbank
from icebreaker.audio.whisper_mel import MAX_SAMPLES, MAX_SECONDS, WhisperMel
from icebreaker.checkpoints.pt_file import load_exactly
from icebreaker.checkpoints.whisper import read_whisper
from icebreaker.config import from_mapping
from icebreaker.errors import DataError
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.whisper_encoder import WhisperEncoder
from icebreaker.nn.subsampling import RATE
from icebreaker.training.frozen import freeze
from icebreaker.training.stage_files import load_into, stage_config

__all__ = ["ChunkedEars", "HeardFrames", "HearingEars", "WhisperEars", "load_ears", "load_encoder"]


@dataclass(frozen=True)
class HeardFrames:
    """Encoder frames [B, T, E] and how many of each row are real [B]."""

    frames: Tensor
    lengths: Tensor


class ChunkedEars(nn.Module):
    """Our encoder, 25 frames a second."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        freeze(encoder)
        self.encoder, self.fbank = encoder, Fbank()

    @property
    def device(self) -> torch.device:
        """Where it hears."""
        return self.fbank.window.device

    @torch.no_grad()
    def forward(self, waveforms: Sequence[NDArray[np.float32]]) -> HeardFrames:
        """Hear recordings [S] at 16 kHz, at the encoder's own chunk size."""
        multiple = RATE * HOP_LENGTH
        samples = [max(multiple, -(-len(w) // multiple) * multiple) for w in waveforms]
        padded = np.stack([np.pad(w, (0, max(samples) - len(w))) for w in waveforms])
        waveform = torch.from_numpy(padded).to(self.device)
        features, _ = self.fbank(waveform, self.fbank.initial_state(len(padded)))
        frames, lengths = self.encoder.encode(features, torch.tensor(samples, device=self.device) // HOP_LENGTH)
        return HeardFrames(frames, lengths)


class WhisperEars(nn.Module):
    """Whisper's encoder: always 1500 frames, as the official pipeline hands them to the adaptor."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        super().__init__()
        freeze(encoder)
        self.encoder, self.mel = encoder, WhisperMel(encoder.config.mels)

    @property
    def device(self) -> torch.device:
        """Where it hears."""
        return self.mel.window.device

    @torch.no_grad()
    def forward(self, waveforms: Sequence[NDArray[np.float32]]) -> HeardFrames:
        """Hear recordings [S] at 16 kHz.

        Raises:
            DataError: one is longer than 30 s.
        """
        longest = max(len(waveform) for waveform in waveforms)
        if longest > MAX_SAMPLES:
            raise DataError(
                f"a question of {longest / SAMPLE_RATE:.1f} s; Whisper hears {MAX_SECONDS} s: "
                "set questions.max_seconds to leave longer ones out"
            )
        mels = torch.cat([self.mel(torch.from_numpy(waveform)[None].to(self.device)) for waveform in waveforms])
        frames = self.encoder(mels)
        return HeardFrames(frames, torch.full((len(frames),), frames.shape[1], device=frames.device))


HearingEars = ChunkedEars | WhisperEars


def load_ears(encoder: Path | None, whisper: Path | None) -> HearingEars:
    """Frozen ears: of the folder of an encoder stage, or of an openai-whisper file or a Hugging Face Whisper folder."""
    if whisper is None:
        assert encoder is not None
        return ChunkedEars(load_encoder(encoder))
    found = read_whisper(whisper)
    module = WhisperEncoder(found.config)
    load_exactly(module, found.weights, str(whisper))
    return WhisperEars(module)


def load_encoder(folder: Path) -> Encoder:
    """Our encoder from the folder of a stage that left one."""
    values = stage_config(folder)
    described = values.get("encoder_config") or values.get("encoder", {})
    encoder = Encoder(from_mapping(EncoderConfig, described, f"{folder}/config.json: encoder"))
    load_into(encoder, folder, "encoder")
    return encoder

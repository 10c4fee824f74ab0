"""Whisper's log-mel features of up to 30 s. Knows nothing of files, encoders or prompts.

The recipe is openai-whisper's: 25 ms Hann windows every 10 ms, centred with reflection, power spectrum, Slaney mel
triangles of equal area, log10, 8 decades below the loudest, always padded with silence to 30 s (LLaMA-Omni,
arXiv:2409.06666v2, keeps that).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.audio.fbank import HOP_LENGTH, SAMPLE_RATE, WINDOW_LENGTH

__all__ = ["MAX_SAMPLES", "MAX_SECONDS", "MEL_FRAMES", "WhisperMel", "slaney_filters"]

MAX_SECONDS = 30
MAX_SAMPLES = MAX_SECONDS * SAMPLE_RATE
MEL_FRAMES = MAX_SAMPLES // HOP_LENGTH  # 3000
FLOOR = 1e-10  # of a mel band's power
DECADES = 8.0  # kept below the loudest value of the 30 s

LINEAR_HZ = 200.0 / 3.0  # Slaney's scale: this wide a mel up to 1 kHz ...
BREAK_HZ = 1000.0
LOG_STEP = math.log(6.4) / 27.0  # ... and this much more, in log frequency, above


class WhisperMel(nn.Module):
    """Waveform [B, S] at 16 kHz to log-mel [B, 3000, M], M 80 or 128; always computed in float32."""

    window: Tensor  # [WINDOW_LENGTH]
    filters: Tensor  # [WINDOW_LENGTH // 2 + 1, M]

    def __init__(self, mels: int = 128) -> None:
        super().__init__()
        self.mels = mels
        self.register_buffer("window", torch.hann_window(WINDOW_LENGTH), persistent=False)
        self.register_buffer("filters", slaney_filters(mels), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Pad with silence to 30 s and analyse.

        Args:
            waveform: [B, S] at 16 kHz in [-1, 1], S at most ``MAX_SAMPLES``: longer speech is the caller's to cut.

        Returns:
            [B, MEL_FRAMES, M], for each row at most 2 wide.

        Raises:
            ValueError: the waveform is no [B, S], or longer than 30 s.
        """
        if waveform.dim() != 2 or waveform.shape[1] > MAX_SAMPLES:
            raise ValueError(
                f"expected a waveform [B, S] of at most {MAX_SAMPLES} samples ({MAX_SECONDS} s at {SAMPLE_RATE} Hz), "
                f"got {list(waveform.shape)}; cut it into windows"
            )
        if self.filters.dtype != torch.float32:
            raise ValueError(f"features need float32 tables, got {self.filters.dtype}; leave WhisperMel out of casts")
        padded = F.pad(waveform.float(), (0, MAX_SAMPLES - waveform.shape[1]))
        spectrum = torch.stft(
            padded, WINDOW_LENGTH, HOP_LENGTH, window=self.window, center=True, pad_mode="reflect", return_complex=True
        )
        power = spectrum[..., :-1].abs().square().mT  # [B, MEL_FRAMES, bins]; Whisper drops the last column
        log_mel = (power @ self.filters).clamp_min(FLOOR).log10()
        loudest = log_mel.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log_mel, loudest - DECADES) + 4.0) / 4.0


def slaney_filters(mels: int) -> Tensor:
    """[WINDOW_LENGTH // 2 + 1, mels] triangles of unit area (over Hz) on Slaney's mel scale, 0 to 8000 Hz."""
    top = hz_to_mel(SAMPLE_RATE / 2)
    corners = mel_to_hz(torch.linspace(0.0, top, mels + 2, dtype=torch.float64))
    bins = torch.linspace(0, SAMPLE_RATE / 2, WINDOW_LENGTH // 2 + 1, dtype=torch.float64)[:, None]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp_min(0)
    return (triangles * (2.0 / (high - low))).float()


def hz_to_mel(hz: float) -> float:
    """Slaney's scale: linear up to 1 kHz, logarithmic above."""
    return hz / LINEAR_HZ if hz < BREAK_HZ else BREAK_HZ / LINEAR_HZ + math.log(hz / BREAK_HZ) / LOG_STEP


def mel_to_hz(mel: Tensor) -> Tensor:
    """The inverse of ``hz_to_mel``."""
    above = mel - BREAK_HZ / LINEAR_HZ
    return torch.where(above < 0, mel * LINEAR_HZ, BREAK_HZ * torch.exp(above * LOG_STEP))

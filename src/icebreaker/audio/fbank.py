"""Kaldi-compatible log-mel features at 100 Hz. Knows nothing of files, models or normalisation.

The recipe is that of the official implementation (``torchaudio.compliance.kaldi.fbank``, dither 0): 25 ms windows
every 10 ms, mean removed, pre-emphasis 0.97, Povey window, 512-point power spectrum, 80 mel triangles, natural log.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "CHUNK_SAMPLES",
    "HISTORY_SAMPLES",
    "HOP_LENGTH",
    "MEL_BINS",
    "SAMPLE_RATE",
    "WINDOW_LENGTH",
    "Fbank",
    "FbankState",
    "fbank",
]

SAMPLE_RATE = 16000
HOP_LENGTH = SAMPLE_RATE // 100  # 10 ms
WINDOW_LENGTH = SAMPLE_RATE // 40  # 25 ms
HISTORY_SAMPLES = WINDOW_LENGTH - HOP_LENGTH  # what a new hop needs of the past
CHUNK_SAMPLES = 16 * HOP_LENGTH  # one listening step, 160 ms
MEL_BINS = 80

PCM_SCALE = 32768.0  # Kaldi counts in int16 units
PRE_EMPHASIS = 0.97
FFT_LENGTH = 512  # the power of two above WINDOW_LENGTH
LOWEST_HZ = 20.0
HIGHEST_HZ = SAMPLE_RATE / 2
ENERGY_FLOOR = 1.1920929e-07  # float32 epsilon; digital silence becomes log(ENERGY_FLOOR) = -15.9424


class FbankState(NamedTuple):
    """What the next call needs of the past."""

    history: Tensor  # [B, HISTORY_SAMPLES], the newest samples seen, in [-1, 1]


class Fbank(nn.Module):
    """Streaming log-mel features; always computed in float32."""

    window: Tensor  # [WINDOW_LENGTH]
    mel: Tensor  # [FFT_LENGTH // 2 + 1, MEL_BINS]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", povey_window(), persistent=False)
        self.register_buffer("mel", mel_matrix(), persistent=False)

    def initial_state(self, batch: int) -> FbankState:
        """Zeros as history, so that every hop gives a frame from the very first on (official implementation)."""
        return FbankState(self.window.new_zeros(batch, HISTORY_SAMPLES))

    def forward(self, waveform: Tensor, state: FbankState) -> tuple[Tensor, FbankState]:
        """Advance by whole hops; equal to ``fbank`` of the history followed by the waveform.

        Args:
            waveform: [B, S] at 16 kHz in [-1, 1]; S is a multiple of ``HOP_LENGTH``.
            state: from ``initial_state`` or the previous call.

        Returns:
            [B, S // HOP_LENGTH, MEL_BINS] and the next state.

        Raises:
            ValueError: S is not a multiple of ``HOP_LENGTH``, or the waveform is not [B, S] for the state's B.
        """
        if waveform.dim() != 2 or waveform.shape[0] != state.history.shape[0]:
            raise ValueError(
                f"expected a waveform [{state.history.shape[0]}, S] as in the state, got {list(waveform.shape)}"
            )
        if waveform.shape[1] % HOP_LENGTH:
            raise ValueError(
                f"expected a multiple of {HOP_LENGTH} samples, got {waveform.shape[1]}; pad the end with zeros"
            )
        samples = torch.cat([state.history, waveform.to(state.history.dtype)], dim=1)
        history = samples[:, samples.shape[1] - HISTORY_SAMPLES :]
        return self.offline(samples), FbankState(history.clone())  # a view would keep the whole recording alive

    def offline(self, waveform: Tensor) -> Tensor:
        """[B, S] at 16 kHz in [-1, 1] to [B, T, MEL_BINS]; only whole windows: T = 1 + (S - 400) // 160, or 0."""
        if self.mel.dtype != torch.float32:
            raise ValueError(f"features need float32 tables, got {self.mel.dtype}; leave Fbank out of the cast")
        if waveform.shape[-1] < WINDOW_LENGTH:
            return self.mel.new_zeros(*waveform.shape[:-1], 0, MEL_BINS)
        power = torch.view_as_real(self.spectrum(waveform)).square().sum(dim=-1)
        return torch.matmul(power, self.mel).clamp(min=ENERGY_FLOOR).log()

    def spectrum(self, waveform: Tensor) -> Tensor:
        """[B, S] at 16 kHz in [-1, 1], S >= 400, to the complex spectra of its windows: [B, T, FFT_LENGTH // 2 + 1]."""
        frames = (waveform.float() * PCM_SCALE).unfold(-1, WINDOW_LENGTH, HOP_LENGTH)  # [B, T, WINDOW_LENGTH]
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = F.pad(frames, (1, 0), mode="replicate")[..., :-1]  # the first sample precedes itself
        windowed = (frames - PRE_EMPHASIS * previous) * self.window
        spectrum: Tensor = torch.fft.rfft(windowed, n=FFT_LENGTH)
        return spectrum


def fbank(waveform: Tensor) -> Tensor:
    """Offline features of [B, S] at 16 kHz in [-1, 1]: [B, T, MEL_BINS], T = 1 + (S - 400) // 160 (snip edges)."""
    return Fbank().to(waveform.device).offline(waveform)


def povey_window() -> Tensor:
    """[WINDOW_LENGTH] Kaldi's default window: a symmetric Hann window to the power 0.85."""
    return torch.hann_window(WINDOW_LENGTH, periodic=False, dtype=torch.float32).pow(0.85)


def mel_matrix() -> Tensor:
    """[FFT_LENGTH // 2 + 1, MEL_BINS] triangles, straight-sided over mel rather than Hz; the Nyquist bin weighs 0.

    Built in float32, as the official implementation does: float64 would move features by up to 6e-4.
    """
    low, high = hz_to_mel(torch.tensor([LOWEST_HZ, HIGHEST_HZ], dtype=torch.float64)).tolist()
    step = (high - low) / (MEL_BINS + 1)
    edges = torch.arange(MEL_BINS + 2, dtype=torch.float32) * step + low
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins = hz_to_mel(torch.arange(FFT_LENGTH // 2, dtype=torch.float32) * (SAMPLE_RATE / FFT_LENGTH))[:, None]
    triangles = torch.minimum((bins - left) / (center - left), (right - bins) / (right - center))
    return F.pad(triangles.clamp(min=0), (0, 0, 0, 1))


def hz_to_mel(hz: Tensor) -> Tensor:
    """Kaldi's mel scale."""
    return 1127.0 * (1.0 + hz / 700.0).log()

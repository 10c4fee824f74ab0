"""Frames of our own speech encoder at 50 Hz, for units where no self-supervised model is at hand. Pure torch.

The encoder gives 25 frames a second, too few for plosives. It hears the recording twice, the second time 20 ms later,
and the frames are interleaved. One layer of it may be listened to before the last: the last one of an encoder trained
by CTC mostly says "nothing new".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from icebreaker.audio.fbank import HOP_LENGTH, Fbank
from icebreaker.models.encoder import Encoder
from icebreaker.nn.subsampling import CONTEXT_FRAMES, RATE

__all__ = ["EncoderFeatures"]

PHASES = 2  # times the encoder hears a recording
SHIFT = RATE // PHASES  # feature frames between them
FRAME_SAMPLES = HOP_LENGTH * SHIFT  # 320: 20 ms
LAG = FRAME_SAMPLES // 2 + 40  # the encoder's frame u is centred at sample 320 u - 40; its 20 ms at 320 u + 160


class EncoderFeatures(nn.Module):
    """Waveform to frames of an ``Encoder``'s layer, on whole recordings with full context."""

    hop_length = FRAME_SAMPLES

    def __init__(self, encoder: Encoder, layer: int) -> None:
        """Listen to ``layer`` (from 1) of ``encoder``.

        Raises:
            ValueError: there is no such layer.
        """
        super().__init__()
        if not 1 <= layer <= len(encoder.layers):
            raise ValueError(f"expected a layer from 1 to {len(encoder.layers)}, got {layer}")
        self.encoder, self.layer, self.fbank = encoder.eval(), layer, Fbank()

    @property
    def width(self) -> int:
        """Width of a frame."""
        return self.encoder.config.width

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [S] at 16 kHz to frames [S // 320, D], each centred in its 20 ms."""
        frames = len(waveform) // FRAME_SAMPLES
        if not frames:
            return waveform.new_zeros(0, self.width)
        steps = -(-frames // PHASES)  # encoder frames of each phase
        wanted = (steps * RATE + SHIFT) * HOP_LENGTH
        aligned = F.pad(waveform[LAG:], (0, wanted))[:wanted]
        features, _ = self.fbank(aligned[None], self.fbank.initial_state(1))
        features = F.pad(features, (0, 0, CONTEXT_FRAMES, 0))
        length = CONTEXT_FRAMES + RATE * steps
        phases = torch.cat([features[:, SHIFT * p : SHIFT * p + length] for p in range(PHASES)])
        return self._listen(phases).transpose(0, 1).flatten(0, 1)[:frames]

    def _listen(self, features: Tensor) -> Tensor:
        """Features [B, T, F] with context to the chosen layer's frames [B, T', D]."""
        heard: list[Tensor] = []
        hook = self.encoder.layers[self.layer - 1].register_forward_hook(lambda _, __, output: heard.append(output[0]))
        try:
            lengths = torch.full((len(features),), features.shape[1], device=features.device)
            self.encoder.encode_features(features, lengths, chunk_size=0, left_chunks=-1)
        finally:
            hook.remove()
        return heard[0]

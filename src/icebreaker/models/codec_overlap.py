"""Wave-out as the official implementation does it: overlapping chunks, cut where little is heard. Knows no sockets.

Kept for parity with the official weights' behaviour; ``codec_stream.CodecStream`` is ours: exact, cheaper and sooner.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from icebreaker.models.codec import Codec

__all__ = ["FIRST_SOUND", "OfficialWaveOut", "OfficialWaveState", "OverlapSettings", "low_energy_cut", "official_pcm"]

FIRST_SOUND = 0.03  # a reply starts at the first sample above this (official server)
INT16_SCALE = 32_768


class OverlapSettings(Protocol):
    """How the official wave-out cuts codes into chunks, and audio into packets."""

    @property
    def first_chunk(self) -> int:
        """Codes per chunk in the first segment of a reply."""

    @property
    def chunk(self) -> int:
        """Codes per chunk afterwards."""

    @property
    def overlap(self) -> int:
        """Codes decoded twice on each side of a border."""

    @property
    def window(self) -> int:
        """Samples of the low-energy search window."""

    @property
    def first_threshold(self) -> float:
        """Mean magnitude below which audio may be cut, in the first segment of a reply."""

    @property
    def threshold(self) -> float:
        """The same afterwards."""

    @property
    def trim_start(self) -> bool:
        """Whether a reply starts at its first audible sample."""


class OfficialWaveState(NamedTuple):
    """One segment on its way out."""

    codes: tuple[int, ...]  # not yet decoded, or decoded only as context
    left: int  # how many of them are context on the left
    carry: Tensor  # [S] decoded, waiting for a quiet place
    first_segment: bool  # of the reply
    untrimmed: bool  # no packet of the reply has left


class OfficialWaveOut:
    """Turns one segment's codes into pieces of waveform; the codec has one codebook."""

    def __init__(self, codec: Codec, voice: Tensor | None, settings: OverlapSettings) -> None:
        if codec.config.codebooks != 1:
            raise ValueError(f"the official wave-out knows one codebook, this codec has {codec.config.codebooks}")
        self.codec, self.settings = codec, settings
        self.voice = voice if voice is None else voice.reshape(1, -1)

    def initial_state(self, first: bool) -> OfficialWaveState:
        """At the start of a segment; ``first``: nothing of the reply has been emitted yet."""
        empty = self.codec.quantizer.codebook(0).new_zeros(0)
        return OfficialWaveState((), 0, empty, first, first)

    def push(
        self, codes: Sequence[int], state: OfficialWaveState, *, last: bool = False
    ) -> tuple[list[Tensor], OfficialWaveState]:
        """Take more codes of the segment, ``last`` with its end; pieces [S] are ready to be played."""
        pieces = list[Tensor]()
        for code in codes:
            state = state._replace(codes=(*state.codes, code))
            if len(state.codes) == state.left + self._chunk(state) + self.settings.overlap:
                emitted, state = self._chunk_out(state)
                pieces += emitted
        if last and state.codes:
            emitted, state = self._emit(torch.cat([state.carry, self._decode(state)[self._left(state) :]]), state)
            pieces += emitted
            state = state._replace(codes=(), left=0, carry=state.carry[:0])
        return pieces, state

    def _chunk(self, state: OfficialWaveState) -> int:
        return self.settings.first_chunk if state.first_segment else self.settings.chunk

    def _left(self, state: OfficialWaveState) -> int:
        return state.left * self.codec.config.hop_length

    def _chunk_out(self, state: OfficialWaveState) -> tuple[list[Tensor], OfficialWaveState]:
        settings = self.settings
        waveform = self._decode(state)
        piece = waveform[self._left(state) : len(waveform) - settings.overlap * self.codec.config.hop_length]
        threshold = settings.first_threshold if state.first_segment else settings.threshold
        emitted, carry = low_energy_cut(piece, state.carry, settings.window, threshold)
        kept = state.codes[len(state.codes) - 2 * settings.overlap :]
        state = state._replace(codes=kept, left=settings.overlap, carry=carry)
        return ([], state) if emitted is None else self._emit(emitted, state)

    @torch.no_grad()
    def _decode(self, state: OfficialWaveState) -> Tensor:
        codes = torch.tensor([state.codes], device=self.codec.quantizer.codebook(0).device)
        return self.codec.decode(codes, self.voice)[0]

    def _emit(self, piece: Tensor, state: OfficialWaveState) -> tuple[list[Tensor], OfficialWaveState]:
        if state.untrimmed and self.settings.trim_start:
            loud = (piece.abs() > FIRST_SOUND).nonzero()
            piece = piece[int(loud[0]) :] if len(loud) else piece
        return [piece], state._replace(untrimmed=False)


def low_energy_cut(new: Tensor, carry: Tensor, window: int, threshold: float) -> tuple[Tensor | None, Tensor]:
    """Cut new audio [S] at the quietest place of its second half, if that is quiet enough.

    The searched span is longer than the quietest window by the window's offset, as in the official implementation.

    Returns:
        What can be played (carry and the part before the cut), or None; and what has to wait.

    Raises:
        ValueError: less audio than one window.
    """
    if len(new) < window:
        raise ValueError(f"expected at least {window} samples to search, got {len(new)}; use longer chunks")
    first = len(new) // 2 - window // 2
    sums = new.abs().double().cumsum(0)
    sums = torch.cat([sums.new_zeros(1), sums])
    sums = sums[window + first :] - sums[first : len(sums) - window]
    offset = int(sums.argmin())
    if not float(sums[offset]) / window < threshold:
        return None, torch.cat([carry, new])
    start = first + offset
    cut = start + int(new[start : min(len(new), offset + window + start)].abs().argmin())
    return torch.cat([carry, new[:cut]]), new[cut:]


def official_pcm(waveform: Tensor) -> Tensor:
    """Waveform [S] to int16 as the official server packs it: truncated, and full scale wraps."""
    return (waveform * INT16_SCALE).to(torch.int32).to(torch.int16)

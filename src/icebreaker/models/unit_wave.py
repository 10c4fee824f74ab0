"""Chunks of units to sound, as they arrive. Knows nothing of text, of Omega or of sessions.

Three rules. ``independent`` is the official one: every chunk is spoken alone, so its edges click and the durations at
its borders are not those of the whole. ``crossfade`` is ours: a chunk is spoken again with the units before it, and
fades in over the last 20 ms, which were held back. ``exact`` is ours too: the stream equals the whole reply to the
sample, because two units and what the generator looks ahead (0.4 s at the published size) are held back.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from icebreaker.models.codec_stream import CodecStream, CodecStreamState
from icebreaker.models.unit_vocoder import NEIGHBOURS, UnitVocoder

__all__ = ["UnitWaveOut", "UnitWaveState", "WaveRule"]

WaveRule = Literal["independent", "crossfade", "exact"]
CONTEXT = 8  # units before a chunk that are spoken again with it, about 14 frames: most of the receptive field

SLOW_FRAMES = 4  # of a unit that lasts long; 1.7 is the mean in the published data


class UnitWaveState(NamedTuple):
    """One reply."""

    units: tuple[int, ...] = ()  # the newest ones
    durations: tuple[int, ...] = ()  # in frames, of the first of them: those are decided, the others wait
    tail: Tensor | None = None  # [n] samples held back (crossfade)
    stream: CodecStreamState | None = None  # (exact)


class UnitWaveOut:
    """Speaks chunks; holds no state of a reply."""

    def __init__(self, vocoder: UnitVocoder, rule: WaveRule = "crossfade") -> None:
        self.vocoder, self.rule = vocoder, rule
        self.stream = CodecStream(vocoder)

    def initial_state(self) -> UnitWaveState:
        """Before the first chunk."""
        return UnitWaveState(stream=self.stream.initial_state(1) if self.rule == "exact" else None)

    @torch.no_grad()
    def push(self, units: Sequence[int], state: UnitWaveState, *, last: bool) -> tuple[Tensor, UnitWaveState]:
        """Speak the next chunk.

        Args:
            units: the chunk, possibly empty.
            state: from ``initial_state`` or the previous call.
            last: no chunk follows; what was held back comes out.

        Returns:
            Waveform [S] of new audio, and the next state: a fresh one after ``last``.

        Raises:
            ValueError: a unit is unknown to the vocoder.
        """
        speak = {"independent": self._alone, "crossfade": self._fading, "exact": self._exactly}[self.rule]
        waveform, following = speak(tuple(units), state, last)
        return waveform, self.initial_state() if last else following

    def held_samples(self, state: UnitWaveState) -> int:
        """How many samples of what was pushed are still held back; for units without a duration yet, an estimate."""
        if state.stream is None:
            return 0 if state.tail is None else len(state.tail)
        hop = self.vocoder.config.hop_length
        waiting = len(state.units) - len(state.durations)
        return min(int(state.stream.fed[0]) * hop, self.stream.delay_samples) + waiting * SLOW_FRAMES * hop

    def _tensor(self, units: Sequence[int]) -> Tensor:
        return torch.tensor([list(units)], dtype=torch.long, device=self.vocoder.embedding.weight.device)

    def _alone(self, units: tuple[int, ...], state: UnitWaveState, last: bool) -> tuple[Tensor, UnitWaveState]:
        return self.vocoder(self._tensor(units)[0]), state

    def _fading(self, units: tuple[int, ...], state: UnitWaveState, last: bool) -> tuple[Tensor, UnitWaveState]:
        held = state.tail if state.tail is not None else self.vocoder.embedding.weight.new_zeros(0)
        if not units:
            return (held, state) if last else (held[:0], state)
        hop = self.vocoder.config.hop_length
        known = self._tensor((*state.units, *units))
        durations = (*state.durations, *self.vocoder.durations(known)[0, len(state.units) :].tolist())
        waveform = self.vocoder(known[0], known.new_tensor(durations))
        new = waveform[sum(state.durations) * hop - len(held) :]
        rise = (torch.arange(len(held), device=new.device) + 0.5) / max(1, len(held))
        new = torch.cat([held * (1 - rise) + new[: len(held)] * rise, new[len(held) :]])
        tail = new[len(new) - (0 if last else hop) :]
        kept = UnitWaveState((*state.units, *units)[-CONTEXT:], durations[-CONTEXT:], tail)
        return new[: len(new) - len(tail)], kept

    def _exactly(self, units: tuple[int, ...], state: UnitWaveState, last: bool) -> tuple[Tensor, UnitWaveState]:
        assert state.stream is not None
        known, before = (*state.units, *units), len(state.durations)
        decided = max(before, len(known) - (0 if last else NEIGHBOURS))
        durations = self.vocoder.durations(self._tensor(known))[0, :decided].tolist() if known else []
        frames = self._tensor(known)[0, before:decided].repeat_interleave(
            torch.tensor(durations[before:], dtype=torch.long, device=self.vocoder.embedding.weight.device)
        )[None]
        lengths = torch.tensor([frames.shape[1]], device=frames.device)
        waveform, samples, stream = self.stream(
            frames, lengths, torch.tensor([last], device=frames.device), state.stream
        )
        first = max(0, decided - NEIGHBOURS)
        kept = UnitWaveState(known[first:], tuple(durations[first:]), None, stream)
        return waveform[0, : int(samples[0])], kept

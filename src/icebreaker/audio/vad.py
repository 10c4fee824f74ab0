"""Where speech starts and ends: Silero VAD and the rule over its probabilities. Knows nothing of dialogue.

The network is the ONNX file of the installed ``silero-vad`` package (MIT), run by onnxruntime. The package itself is
not imported: doing so would set torch to a single thread in the whole process.
"""

from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from icebreaker.errors import CheckpointError

__all__ = ["WINDOW_SAMPLES", "Boundary", "Silero", "SileroState", "VadConfig", "VadEvent", "VadIterator", "VadState"]

SAMPLE_RATE = 16000
WINDOW_SAMPLES = 512  # 32 ms, the only length the network takes at 16 kHz
CONTEXT_SAMPLES = 64  # of the previous window, put in front of each
HIDDEN_SHAPE = (2, 128)  # the network's recurrent state, per row


class SileroState(NamedTuple):
    """What the network remembers."""

    context: Tensor  # [B, CONTEXT_SAMPLES]
    hidden: Tensor  # [B, 2, 128]


class Silero:
    """Speech probability per 32 ms window, for a batch of streams at 16 kHz."""

    def __init__(self, path: Path | None = None) -> None:
        path = installed_model() if path is None else path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # 0.4 ms of work: threads only cost
        options.log_severity_level = 3  # errors only; the file warns about unused initializers
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no public base
            raise CheckpointError(f"{path}: expected a Silero VAD ONNX file: {error}") from error

    def initial_state(self, batch: int) -> SileroState:
        """Silence before the stream."""
        return SileroState(torch.zeros(batch, CONTEXT_SAMPLES), torch.zeros(batch, *HIDDEN_SHAPE))

    def __call__(self, waveform: Tensor, state: SileroState) -> tuple[Tensor, SileroState]:
        """Advance by whole windows.

        Args:
            waveform: [B, S] float32 at 16 kHz in [-1, 1], on the CPU; S is a multiple of ``WINDOW_SAMPLES``.
            state: from ``initial_state`` or the previous call.

        Returns:
            [B, S // WINDOW_SAMPLES] probabilities of speech and the next state.

        Raises:
            ValueError: the waveform is not a batch of whole windows.
        """
        if waveform.dim() != 2 or waveform.shape[0] != len(state.context) or waveform.shape[1] % WINDOW_SAMPLES:
            raise ValueError(
                f"expected a waveform [{len(state.context)}, multiple of {WINDOW_SAMPLES}], got "
                f"{list(waveform.shape)}; keep the rest for the next call"
            )
        samples = torch.cat([state.context, waveform.float()], dim=1)
        hidden = np.ascontiguousarray(state.hidden.numpy().swapaxes(0, 1))  # the network has the batch second
        probabilities = torch.zeros(len(waveform), waveform.shape[1] // WINDOW_SAMPLES)
        for window in range(probabilities.shape[1]):
            end = CONTEXT_SAMPLES + (window + 1) * WINDOW_SAMPLES
            inputs = np.ascontiguousarray(samples[:, end - CONTEXT_SAMPLES - WINDOW_SAMPLES : end].numpy())
            feed = {"input": inputs, "state": hidden, "sr": np.array(SAMPLE_RATE)}
            probability, hidden = self._session.run(["output", "stateN"], feed)
            probabilities[:, window] = torch.from_numpy(probability[:, 0])
        context = samples[:, samples.shape[1] - CONTEXT_SAMPLES :].clone()
        return probabilities, SileroState(context, torch.from_numpy(hidden.swapaxes(0, 1).copy()))


def installed_model() -> Path:
    """The ONNX file inside the installed ``silero-vad`` package, found without importing it.

    Raises:
        CheckpointError: the package is not installed, or holds no such file.
    """
    spec = find_spec("silero_vad")
    folders = spec.submodule_search_locations if spec is not None else None
    path = Path(folders[0], "data", "silero_vad.onnx") if folders else None
    if path is None or not path.is_file():
        raise CheckpointError(
            f"expected {path or 'the package silero-vad'} to be installed; pip install 'silero-vad>=6.2'"
        )
    return path


@dataclass(frozen=True, kw_only=True)
class VadConfig:
    """When probabilities count as speech. The defaults are those of the official server."""

    threshold: float = 0.8  # at or above: speech
    end_threshold: float = 0.65  # below: silence; between the two: as before
    min_silence_ms: int = 2000
    pad_ms: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.end_threshold <= self.threshold < 1:
            raise ValueError(
                f"expected 0 < end_threshold <= threshold < 1, got {self.end_threshold} and {self.threshold}"
            )
        if self.min_silence_ms < 0 or self.pad_ms < 0:
            raise ValueError(f"expected times from 0 ms on, got {self.min_silence_ms} and {self.pad_ms} ms")


class Boundary(Enum):
    """What a window brought."""

    START = "start"
    END = "end"


class VadEvent(NamedTuple):
    """Speech began or ended, at a sample position since the initial state."""

    boundary: Boundary
    position: int


class VadState(NamedTuple):
    """Where one stream stands."""

    speaking: bool = False
    position: int = 0  # samples heard
    silence_since: int | None = None  # position after the first silent window of the present pause


class VadIterator:
    """The rule of the official server (Silero's iterator): start at once, end after a long enough pause."""

    def __init__(self, config: VadConfig | None = None) -> None:
        self.config = VadConfig() if config is None else config
        self._min_silence = self.config.min_silence_ms * SAMPLE_RATE // 1000
        self._pad = self.config.pad_ms * SAMPLE_RATE // 1000

    def initial_state(self) -> VadState:
        """Silence."""
        return VadState()

    def step(self, probability: float, state: VadState) -> tuple[VadEvent | None, VadState]:
        """Advance by one window of ``WINDOW_SAMPLES`` with its probability of speech."""
        position = state.position + WINDOW_SAMPLES
        if probability >= self.config.threshold:
            start = VadEvent(Boundary.START, max(0, state.position - self._pad))
            return None if state.speaking else start, VadState(True, position)
        if probability >= self.config.end_threshold or not state.speaking:
            return None, state._replace(position=position)
        since = position if state.silence_since is None else state.silence_since
        if position - since < self._min_silence:
            return None, VadState(True, position, since)
        return VadEvent(Boundary.END, since - WINDOW_SAMPLES + self._pad), VadState(False, position)

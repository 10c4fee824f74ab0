"""Predictors of how natural speech sounds, behind one small interface. Know nothing of what is measured.

DNSMOS (P.835: speech, background, overall) runs the ONNX file of the package ``speechmos``; the package itself is not
imported, because it would bring librosa for a resampling that we have. UTMOS is a TorchScript file given by its path.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from icebreaker.errors import ConfigError

__all__ = ["MOS_RATE", "Dnsmos", "MosPredictor", "Utmos", "load_mos"]

MOS_RATE = 16_000
WINDOW_SAMPLES = int(9.01 * MOS_RATE)  # what the network hears at once; shorter speech is repeated, as by its authors
POLYNOMIALS = {  # from the network's scale to that of the listeners (DNSMOS P.835, not personalised)
    "speech": (-0.08397278, 1.22083953, 0.0052439),
    "background": (-0.13166888, 1.60915514, -0.39604546),
    "overall": (-0.06766283, 1.11546468, 0.04602535),
}


class MosPredictor(Protocol):
    """A waveform to mean opinion scores, 1 to 5."""

    name: str

    def score(self, waveform: NDArray[np.float32]) -> dict[str, float]:
        """Scores of ``waveform`` [S] at 16 kHz, by name."""
        ...


class Dnsmos:
    """DNSMOS P.835."""

    name = "DNSMOS"

    def __init__(self) -> None:
        spec = find_spec("speechmos")
        folders = spec.submodule_search_locations if spec is not None else None
        path = Path(folders[0], "dnsmos_models", "sig_bak_ovr.onnx") if folders else None
        if path is None or not path.is_file():
            raise ConfigError("DNSMOS needs the package speechmos; pip install 'icebreaker-speech[eval]'")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def score(self, waveform: NDArray[np.float32]) -> dict[str, float]:
        """See ``MosPredictor``; the mean over windows that begin a second apart."""
        if not len(waveform):
            return {}
        while len(waveform) < WINDOW_SAMPLES:
            waveform = np.concatenate([waveform, waveform])
        windows = int(len(waveform) / MOS_RATE - WINDOW_SAMPLES / MOS_RATE) + 1
        starts = [index * MOS_RATE for index in range(windows)]
        raw = [self._session.run(None, {"input_1": self._window(waveform, start)})[0][0] for start in starts]
        return {
            name: float(np.mean([np.polyval(polynomial, row[index]) for row in raw]))
            for index, (name, polynomial) in enumerate(POLYNOMIALS.items())
        }

    def _window(self, waveform: NDArray[np.float32], start: int) -> NDArray[np.float32]:
        return np.asarray(waveform[None, start : start + WINDOW_SAMPLES], dtype=np.float32)


class Utmos:
    """A TorchScript file that takes waveforms [1, S] at 16 kHz and returns a score."""

    name = "UTMOS"

    def __init__(self, path: Path) -> None:
        try:
            self._model = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"{path}: expected UTMOS as a TorchScript file: {error}") from error

    @torch.inference_mode()
    def score(self, waveform: NDArray[np.float32]) -> dict[str, float]:
        """See ``MosPredictor``."""
        return {"utmos": float(self._model(torch.from_numpy(waveform)[None]).mean())} if len(waveform) else {}


def load_mos(name: str) -> MosPredictor:
    """``dnsmos``, or UTMOS from the TorchScript file ``name``."""
    return Dnsmos() if name == "dnsmos" else Utmos(Path(name))

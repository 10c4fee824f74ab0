"""K-means centres of speech features: fitted, and read from files. Knows nothing of what the features are of.

Files: ``.npy`` with the centres [K, D], ours; or the joblib dump of a scikit-learn object, as the released units come.
Such a dump is a pickle. It is read by an unpickler that rebuilds arrays and puts an empty object for everything else,
so nothing named in the file is imported or called, and scikit-learn's version does not matter.
"""

import io
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.data.aside import written_aside
from icebreaker.errors import DataError
from icebreaker.extras import load_extra

__all__ = ["fit_centres", "read_centres", "write_centres"]

BATCH = 10_000  # frames a step of the fit
LEAST_PER_CENTRE = 2
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
NUMPY_CALLS = {"ndarray", "dtype", "scalar", "_reconstruct"}


def fit_centres(frames: Sequence[Tensor] | Tensor, units: int, *, seed: int = 0, rounds: int = 100) -> Tensor:
    """Cluster ``frames`` ([T, D], or several of them) into ``units`` centres [K, D] by mini-batch k-means.

    Raises:
        DataError: there are fewer frames than two for each centre.
    """
    points = torch.cat(list(frames)) if not isinstance(frames, Tensor) else frames
    if len(points) < LEAST_PER_CENTRE * units:
        raise DataError(f"{len(points)} frames are too few for {units} units; give more recordings, or fewer units")
    cluster = load_extra("sklearn.cluster", "train")
    fitted = cluster.MiniBatchKMeans(
        n_clusters=units, batch_size=BATCH, max_iter=rounds, n_init=1, random_state=seed, reassignment_ratio=0.0
    ).fit(points.float().numpy())
    return torch.from_numpy(np.asarray(fitted.cluster_centers_, dtype=np.float32))


def write_centres(path: Path, centres: Tensor) -> None:
    """Write ``centres`` [K, D] as ``.npy``, aside first."""
    with written_aside(path) as aside, aside.open("wb") as file:
        np.save(file, centres.float().numpy())


def read_centres(path: Path) -> Tensor:
    """The centres [K, D], float32, of a ``.npy`` file or of a joblib dump of a fitted k-means.

    Raises:
        DataError: the file is missing, damaged, or holds no centres.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read the k-means file: {error}") from error
    try:
        centres = np.load(io.BytesIO(content)) if content[:6] == b"\x93NUMPY" else _dumped_centres(content)
    except (
        pickle.UnpicklingError,
        ValueError,
        EOFError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path}: neither a .npy file nor a whole joblib dump ({error}); was the download cut short?"
        ) from error
    if not isinstance(centres, np.ndarray) or centres.ndim != 2 or not np.issubdtype(centres.dtype, np.number):
        raise DataError(f"{path}: expected k-means centres [K, D], found {_what(centres)}")
    return torch.from_numpy(np.array(centres, dtype=np.float32))


def _what(content: Any) -> str:
    return f"an array {content.shape}" if isinstance(content, np.ndarray) else "no cluster_centers_"


def _dumped_centres(content: bytes) -> NDArray[Any] | None:
    if content[:1] == b"\x78" or content[:2] == b"\x1f\x8b":  # joblib's compression
        content = zlib.decompress(content, GZIP_OR_ZLIB)
    found = _array_reader()("", io.BytesIO(content), ensure_native_byte_order=True).load()
    return getattr(found, "cluster_centers_", None)


class _Inert:
    """Stands for an object that is not rebuilt; takes the attributes stored with it."""

    def __init__(self, *_: Any) -> None: ...


def _array_reader() -> Any:
    """joblib's unpickler, held to arrays."""
    numpy_pickle = load_extra("joblib.numpy_pickle", "train")

    class Wrapper(numpy_pickle.NumpyArrayWrapper):  # type: ignore[misc, name-defined]
        def read_array(self, *arguments: Any, **options: Any) -> Any:
            if np.dtype(self.dtype).hasobject:  # would be unpickled without restrictions
                raise pickle.UnpicklingError("an array of objects")
            return super().read_array(*arguments, **options)

    class Reader(numpy_pickle.NumpyUnpickler):  # type: ignore[misc, name-defined]
        def find_class(self, module: str, name: str) -> Any:
            if module == "joblib.numpy_pickle" and name == "NumpyArrayWrapper":
                return Wrapper
            if module.split(".")[0] == "numpy" and name in NUMPY_CALLS:
                return super().find_class(module, name)
            return _Inert

    return Reader

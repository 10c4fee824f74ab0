import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from icebreaker.data.kmeans import fit_centres, read_centres, write_centres
from icebreaker.errors import DataError


def blobs(centres: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    middle = 10 * torch.eye(centres, 6)
    return (middle.repeat(100, 1) + 0.1 * torch.randn(100 * centres, 6, generator=generator))[
        torch.randperm(100 * centres, generator=generator)
    ]


def test_the_fit_finds_the_clusters() -> None:
    centres = fit_centres(blobs(), 4, seed=1)
    nearest = torch.cdist(10 * torch.eye(4, 6), centres)
    assert nearest.min(dim=1).values.max() < 0.1
    assert torch.equal(centres, fit_centres([blobs()[:150], blobs()[150:]], 4, seed=1))


def test_too_few_frames() -> None:
    with pytest.raises(DataError, match="400 frames are too few for 201 units"):
        fit_centres(blobs(), 201)


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3)])
def test_the_official_format_reads_back(tmp_path: Path, compress: Any) -> None:
    fitted = MiniBatchKMeans(4, n_init=1, random_state=0).fit(blobs().numpy())
    joblib.dump(fitted, tmp_path / "km.bin", compress=compress)
    centres = read_centres(tmp_path / "km.bin")
    np.testing.assert_allclose(centres.numpy(), fitted.cluster_centers_, rtol=1e-6)
    assert centres.dtype == torch.float32


def test_our_format_reads_back(tmp_path: Path) -> None:
    centres = torch.randn(5, 3)
    write_centres(tmp_path / "kmeans.npy", centres)
    assert torch.equal(read_centres(tmp_path / "kmeans.npy"), centres)


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("hidden", [False, True])
def test_nothing_in_a_dump_is_run(tmp_path: Path, hidden: bool) -> None:
    witness = tmp_path / "ran"
    content = {"a": np.array([Malicious(witness)], dtype=object)} if hidden else Malicious(witness)
    joblib.dump(content, tmp_path / "km.bin")
    with pytest.raises(DataError, match=r"km\.bin"):
        read_centres(tmp_path / "km.bin")
    assert not witness.exists()


def test_files_that_hold_no_centres(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the k-means file"):
        read_centres(tmp_path / "none.bin")
    (tmp_path / "other.bin").write_bytes(pickle.dumps({"centres": 3}))
    with pytest.raises(DataError, match="found no cluster_centers_"):
        read_centres(tmp_path / "other.bin")
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with pytest.raises(DataError, match=r"\[K, D\], found an array \(4,\)"):
        read_centres(tmp_path / "flat.npy")
    joblib.dump(MiniBatchKMeans(4, n_init=1).fit(blobs().numpy()), tmp_path / "km.bin")
    (tmp_path / "half.bin").write_bytes((tmp_path / "km.bin").read_bytes()[:300])
    with pytest.raises(DataError, match=r"half.bin.*cut short"):
        read_centres(tmp_path / "half.bin")

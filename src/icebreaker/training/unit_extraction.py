"""Stage: the speech units of recordings (arXiv:2409.06666v2, section 3.4), from fitting k-means to a file of units.

Features come from one layer of a HuBERT folder, as in the paper, or where none is at hand of our own encoder. Units
are written without consecutive duplicates and with their durations, which the vocoder learns to predict.
"""

import functools
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from icebreaker.audio.pcm import load_audio
from icebreaker.config import to_mapping
from icebreaker.data.kmeans import fit_centres, read_centres, write_centres
from icebreaker.data.manifest import Item, read_manifest
from icebreaker.data.spread import Spread, here, on_ray
from icebreaker.errors import ConfigError, DataError
from icebreaker.models.encoder_features import EncoderFeatures
from icebreaker.models.hubert_features import HubertFeatures
from icebreaker.models.units import Quantiser, merge_runs
from icebreaker.training.codec_batches import levelled
from icebreaker.training.devices import check_device_name, chosen_device, device_of
from icebreaker.training.hearing import load_encoder
from icebreaker.training.loop import StepReport

__all__ = [
    "UNIT_RATE",
    "LoadedUnits",
    "SpokenUnits",
    "UnitExtractionConfig",
    "UnitExtractor",
    "UnitFeaturesConfig",
    "read_units",
    "run",
]

logger = logging.getLogger(__name__)
SAMPLE_RATE = 16_000
UNIT_RATE = 50  # frames a second that durations count
CENTRES, UNITS = "kmeans.npy", "units.jsonl"


@dataclass(frozen=True, kw_only=True)
class UnitFeaturesConfig:
    """What units are clusters of: a layer, counted from 1, of a HuBERT folder or of an encoder stage's folder."""

    hubert: Path | None = None
    encoder: Path | None = None
    layer: int = 11
    level: bool = False  # bring every recording to the loudness of training first: our encoder hears loudness

    def __post_init__(self) -> None:
        if (self.hubert is None) == (self.encoder is None):
            raise ValueError("expected either hubert (a Hugging Face folder) or encoder (a folder of encoder_ctc)")


@dataclass(frozen=True, kw_only=True)
class UnitExtractionConfig:
    """Everything of one run of this stage."""

    stage: str = "units"
    output: Path
    data: Path  # manifest
    features: UnitFeaturesConfig
    kmeans: Path | None = None  # centres to use; left out: they are fitted
    units: int = 1000
    fit_recordings: int = 2000  # drawn from the training split
    fit_frames: int = 1_000_000  # at most
    seed: int = 0
    device: str = "auto"  # the GPU of the process, else the CPU; or "cpu", "cuda", "cuda:N"
    ray: str | None = None  # extract on a Ray cluster: "local", or its address

    def __post_init__(self) -> None:
        check_device_name(self.device)


class SpokenUnits(NamedTuple):
    """A recording's units [N] without consecutive duplicates, and the 20 ms frames each lasted [N]."""

    units: Tensor
    durations: Tensor


class UnitExtractor:
    """Waveforms to units: features, then the nearest centre."""

    def __init__(self, features: EncoderFeatures | HubertFeatures, quantiser: Quantiser, *, level: bool) -> None:
        """Raise ConfigError where the centres do not have the features' width."""
        width = quantiser.centres.shape[1]
        if width != features.width:
            raise ConfigError(
                f"the k-means centres are {width} wide, the features {features.width}; use the centres that were "
                "fitted on features of this model and layer"
            )
        self.features, self.quantiser, self.level = features, quantiser, level

    @classmethod
    def load(cls, config: UnitFeaturesConfig, kmeans: Path, device: torch.device | str = "cpu") -> "UnitExtractor":
        """Build it from a feature model and a k-means file, on ``device``."""
        centres = Quantiser(read_centres(kmeans)).to(device)
        return cls(load_features(config).to(device), centres, level=config.level)

    def __call__(self, waveform: NDArray[np.float32]) -> SpokenUnits:
        """Units of a waveform [S] at 16 kHz."""
        heard = levelled(waveform) if self.level else waveform
        sound = torch.from_numpy(heard).to(self.quantiser.centres.device)
        return SpokenUnits(*merge_runs(self.quantiser(self.features(sound)).cpu()))


@dataclass(frozen=True)
class LoadedUnits:
    """The extractor of ``features`` and ``kmeans``, loaded by each process when it is first asked: small to send."""

    features: UnitFeaturesConfig
    kmeans: Path
    device: str = "auto"  # as each process has it

    def __call__(self, waveform: NDArray[np.float32]) -> SpokenUnits:
        """Units of a waveform [S] at 16 kHz."""
        return _loaded(self.features, self.kmeans, self.device)(waveform)


@functools.cache
def _loaded(features: UnitFeaturesConfig, kmeans: Path, device: str) -> UnitExtractor:
    return UnitExtractor.load(features, kmeans, chosen_device(device))


def load_features(config: UnitFeaturesConfig) -> EncoderFeatures | HubertFeatures:
    """The feature model that ``config`` names.

    Raises:
        ConfigError: it has no such layer.
    """
    try:
        if config.hubert is not None:
            return HubertFeatures.load(config.hubert, config.layer)
        assert config.encoder is not None
        return EncoderFeatures(load_encoder(config.encoder), config.layer)
    except ValueError as error:
        raise ConfigError(f"features.layer: {error}") from error


def run(config: UnitExtractionConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Fit centres where none are given, then append the units of what is missing to ``config.output/units.jsonl``."""
    config.output.mkdir(parents=True, exist_ok=True)
    device, items = device_of(config), read_manifest(config.data)
    features = load_features(config.features).to(device)
    own = config.output / CENTRES
    if config.kmeans is not None:
        write_centres(own, read_centres(config.kmeans))
    elif not own.exists():
        write_centres(own, fit(config, features, items, device))
    if config.ray is not None:
        cluster = on_ray(None if config.ray == "local" else config.ray)
        extract(
            LoadedUnits(config.features, own.absolute(), config.device), items, config.output / UNITS, progress, cluster
        )
    else:
        extractor = UnitExtractor(features, Quantiser(read_centres(own)).to(device), level=config.features.level)
        extract(extractor, items, config.output / UNITS, progress)
    (config.output / "config.json").write_text(json.dumps(to_mapping(config), indent=2) + "\n")


def fit(
    config: UnitExtractionConfig,
    features: EncoderFeatures | HubertFeatures,
    items: Sequence[Item],
    device: torch.device,
) -> Tensor:
    """Centres [K, D] of the features of randomly drawn training recordings."""
    chosen = [item for item in items if item.split == "train"]
    random.Random(config.seed).shuffle(chosen)
    found, frames = list[Tensor](), 0
    for item in chosen[: config.fit_recordings]:
        waveform = load_audio(item.audio, SAMPLE_RATE)
        heard = torch.from_numpy(levelled(waveform) if config.features.level else waveform)
        found.append(features(heard.to(device)).cpu())
        frames += len(found[-1])
        if frames >= config.fit_frames:
            break
    if not found:
        raise DataError(f"{config.data}: no recording of split 'train' to fit units on")
    logger.info("fitting %d units on %d frames of %d recordings", config.units, frames, len(found))
    return fit_centres(found, config.units, seed=config.seed)


def extract(
    extractor: "UnitExtractor | LoadedUnits",
    items: Sequence[Item],
    path: Path,
    progress: Callable[[StepReport], None] = lambda report: None,
    spread: Spread = here,
) -> None:
    """Append {"id", "units", "durations"} for every item that ``path`` lacks; a line cut short is made again."""
    done = {name for name, _ in _whole_lines(path)}
    waiting = [item for item in items if item.id not in done]
    made = spread(functools.partial(_units_of, extractor), [item.audio.absolute() for item in waiting])
    with path.open("a") as file:
        for number, (item, (units, durations)) in enumerate(zip(waiting, made, strict=True), start=1 + len(done)):
            row = {"id": item.id, "units": units.tolist(), "durations": durations.tolist()}
            file.write(json.dumps(row) + "\n")
            file.flush()
            progress(StepReport(number, 0.0, 0.0, 0.0, {}, len(items)))


def _units_of(extractor: "UnitExtractor | LoadedUnits", path: Path) -> SpokenUnits:
    return extractor(load_audio(path, SAMPLE_RATE))


def read_units(path: Path) -> dict[str, SpokenUnits]:
    """Units and durations by recording id, as this stage leaves them.

    Raises:
        DataError: the file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; run stage units first")
    return dict(_whole_lines(path))


def _whole_lines(path: Path) -> Iterator[tuple[str, SpokenUnits]]:
    """What ``path`` holds; half a line at its end, left by a kill, is cut off."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    for number, line in enumerate(content[:whole].splitlines(), start=1):
        try:
            row = json.loads(line)
            yield row["id"], SpokenUnits(torch.tensor(row["units"]).long(), torch.tensor(row["durations"]).long())
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}:{number}: not a line of units: {error}; remove the file and run again") from error

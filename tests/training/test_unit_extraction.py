import json
from pathlib import Path

import numpy as np
import pytest
import speech
import torch

from icebreaker.config import to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.errors import ConfigError, DataError
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.training import unit_extraction
from icebreaker.training.stage_files import save_stage
from icebreaker.training.unit_extraction import UnitExtractionConfig, UnitExtractor, UnitFeaturesConfig, read_units, run

ENCODER = EncoderConfig(
    subsampling_dim=8, width=12, heads=2, feed_forward_dim=16, layers=2, position_encoding="abs-enc"
)


@pytest.fixture
def config(tmp_path: Path) -> UnitExtractionConfig:
    manifest, _ = speech.write_questions(tmp_path / "questions")
    torch.manual_seed(0)
    (tmp_path / "encoder").mkdir()
    save_stage(tmp_path / "encoder", {"encoder": Encoder(ENCODER)}, {"encoder": to_mapping(ENCODER)})
    features = UnitFeaturesConfig(encoder=tmp_path / "encoder", layer=2, level=True)
    return UnitExtractionConfig(output=tmp_path / "units", data=Path(manifest), features=features, units=6)


def test_units_of_a_manifest(config: UnitExtractionConfig) -> None:
    run(config)
    spoken = read_units(config.output / "units.jsonl")
    items = read_manifest(config.data)
    assert spoken.keys() == {item.id for item in items}
    for item in items:
        units, durations = spoken[item.id]
        assert durations.sum() == int(item.seconds * 16000) // 320
        assert (units[1:] != units[:-1]).all()
        assert 0 <= int(units.min()) <= int(units.max()) < 6
    same_text = [spoken[item.id].units.tolist() for item in items if item.text == "a bad dad"]
    assert len(same_text) == 2


def test_a_killed_extraction_loses_and_repeats_nothing(
    config: UnitExtractionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config)
    path = config.output / "units.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # in the middle of a line
    kept = whole[: len(whole) // 2].count(b"\n")
    worked: list[int] = []
    original = UnitExtractor.__call__
    monkeypatch.setattr(UnitExtractor, "__call__", lambda self, w: worked.append(1) or original(self, w))
    run(config)
    assert path.read_bytes() == whole
    assert len(worked) == whole.count(b"\n") - kept


def test_centres_of_the_wrong_width(config: UnitExtractionConfig, tmp_path: Path) -> None:
    np.save(tmp_path / "km.npy", np.random.default_rng(0).normal(size=(6, 768)))
    with pytest.raises(ConfigError, match=r"centres are 768 wide, the features 12"):
        UnitExtractor.load(config.features, tmp_path / "km.npy")
    with pytest.raises(ConfigError, match=r"features.layer: expected a layer from 1 to 2, got 9"):
        unit_extraction.load_features(UnitFeaturesConfig(encoder=config.features.encoder, layer=9))


def test_one_source_of_features() -> None:
    with pytest.raises(ValueError, match="either hubert"):
        UnitFeaturesConfig(layer=3)


def test_damaged_units(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run stage units first"):
        read_units(tmp_path / "units.jsonl")
    (tmp_path / "units.jsonl").write_text(json.dumps({"id": "a"}) + "\n")
    with pytest.raises(DataError, match=r"units.jsonl:1: not a line of units"):
        read_units(tmp_path / "units.jsonl")

import json
from pathlib import Path

import pytest
import torch
from transformers import HubertConfig, HubertModel

from icebreaker.errors import CheckpointError
from icebreaker.models import hubert_features
from icebreaker.models.hubert_features import HubertFeatures

CONFIG = HubertConfig(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7,
    num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    HubertModel(CONFIG).save_pretrained(tmp_path)
    return tmp_path


def test_a_layers_frames_are_what_the_next_layer_reads(folder: Path) -> None:
    waveform = torch.randn(4000)
    features = HubertFeatures.load(folder, 2)
    read: list[torch.Tensor] = []
    features.model.encoder.layers[2].register_forward_pre_hook(lambda _, given: read.append(given[0]))
    frames = features(waveform)
    assert frames.shape == (1 + (4000 - 400) // 320, 16)
    torch.testing.assert_close(frames, read[0][0])


def test_long_recordings_are_heard_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubert_features, "PIECE_SAMPLES", 2000)
    features, waveform = HubertFeatures.load(folder, 1), torch.randn(4100)  # the last 100 samples are no frame
    expected = torch.cat([features(waveform[:2000]), features(waveform[2000:4000])])
    assert torch.equal(features(waveform), expected)
    assert features(waveform[:399]).shape == (0, 16)


def test_the_folder_says_whether_recordings_are_normalised(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    features, waveform = HubertFeatures.load(folder, 3), 7 * torch.randn(2000) + 2
    heard: list[torch.Tensor] = []
    features.model.feature_extractor.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    features(waveform)
    HubertFeatures(features.model, 3)(waveform)
    torch.testing.assert_close(heard[0][0], (waveform - waveform.mean()) / waveform.std(unbiased=False))
    assert torch.equal(heard[1][0], waveform)


def test_folders_that_are_no_hubert(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a layer from 1 to 3, got 11"):
        HubertFeatures.load(folder, 11)
    with pytest.raises(CheckpointError, match="not loadable as HuBERT"):
        HubertFeatures.load(tmp_path / "nowhere", 1)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(CheckpointError, match="not a HuBERT"):
        HubertFeatures.load(folder, 1)

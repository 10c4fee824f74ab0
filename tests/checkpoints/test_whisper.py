import json
from pathlib import Path

import pytest
import torch
from omni_golden import SPEECH_ENCODER, omni_parts, waveform
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperModel

from icebreaker.checkpoints.pt_file import load_exactly
from icebreaker.checkpoints.whisper import hugging_face_keys, read_whisper
from icebreaker.errors import CheckpointError
from icebreaker.models.whisper_encoder import WhisperEncoder


def write_hugging_face(folder: Path, prefix: str) -> None:
    whisper = read_whisper(SPEECH_ENCODER)
    table = hugging_face_keys(whisper.config.layers, f"{prefix}encoder.")
    weights = {theirs: whisper.weights[ours].contiguous() for theirs, ours in table.items() if ours is not None}
    save_file(weights | {f"{prefix}decoder.layer_norm.weight": torch.zeros(3)}, folder / "model.safetensors")
    sizes = {"num_mel_bins": 128, "max_source_positions": 1500, "d_model": 32, "encoder_attention_heads": 4}
    config = {"model_type": "whisper", "encoder_layers": 2, **sizes}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("prefix", ["model.", ""])
def test_hugging_face_folders_hold_the_same_encoder(tmp_path: Path, prefix: str) -> None:
    write_hugging_face(tmp_path, prefix)
    whisper = read_whisper(tmp_path)
    encoder = WhisperEncoder(whisper.config)
    load_exactly(encoder, whisper.weights, "folder")
    mel = omni_parts().features(waveform("a")[None])
    with torch.inference_mode():
        torch.testing.assert_close(encoder(mel), omni_parts().encoder(mel))


def test_hugging_face_names_are_those_of_transformers() -> None:

    sizes = {"d_model": 8, "encoder_layers": 2, "encoder_attention_heads": 2, "decoder_layers": 1}
    with torch.device("meta"):
        model = WhisperModel(WhisperConfig(**sizes, decoder_attention_heads=2, encoder_ffn_dim=32, vocab_size=60000))
    theirs = {name for name in model.state_dict() if name.startswith("encoder.")}
    assert theirs == hugging_face_keys(2, "encoder.").keys()


def test_files_that_are_no_whisper_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="expected 'dims' and 'model_state_dict'"):
        read_whisper(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no such file"):
        read_whisper(tmp_path / "absent.pt")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="not that of a Whisper model"):
        read_whisper(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    content = torch.load(SPEECH_ENCODER, weights_only=True)
    del content["model_state_dict"]["encoder.blocks.1.attn.out.bias"]
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(CheckpointError, match=r"missing encoder\.blocks\.1\.attn\.out\.bias"):
        read_whisper(tmp_path / "damaged.pt")

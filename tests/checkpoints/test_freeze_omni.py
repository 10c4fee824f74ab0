from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icebreaker.checkpoints.freeze_omni import is_official, load_official, read_official
from icebreaker.checkpoints.freeze_omni_write import write_official
from icebreaker.checkpoints.modules import build_modules, check_width
from icebreaker.checkpoints.pt_file import check_fit, read_pt, write_pt
from icebreaker.dialogue.parts import Parts
from icebreaker.errors import CheckpointError
from icebreaker.models.llm import LLM

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
PARTS = ("encoder", "adapter", "prompts", "turn_head", "codec_lm", "codec")


def rewrite(path: Path, change: Mapping[str, Any] = {}, drop: str = "", nested: str = "") -> None:
    """Replace entries of a .pt file, or drop one."""
    content = dict(read_pt(path))
    target = dict(content[nested]) if nested else content
    target |= change
    target.pop(drop, None)
    write_pt(path, content | {nested: target} if nested else target)


def test_the_tiny_release_loads(llm_folder: Path) -> None:
    folder = GOLDEN / "checkpoints"
    assert is_official(folder)
    parts = load_official(folder, llm_folder)
    listening = read_pt(folder / "audiollm" / "final.pt")
    assert torch.equal(parts.adapter.project.weight, listening["adpter.project.weight"].float())
    assert torch.equal(parts.prompts.prompt_embeddings.weight, listening["prompt_embeddings.weight"].float())
    assert torch.equal(
        parts.encoder.layers[1].attention.content_bias,  # type: ignore[union-attr, arg-type]
        listening["encoder.enc.1.encoders.1.self_attn.pos_bias_u"].float(),
    )
    assert torch.equal(parts.codec_lm.head.weight, read_pt(folder / "decoder" / "final.pt")["model"]["out_fnn.weight"])
    assert parts.voice is not None
    assert parts.voice.tolist() == [[7, 33, 60, 12]]
    assert parts.settings.wave_out.rule == "official"
    assert parts.encoder.config.positions == "official"
    tokenizer = parts.llm.tokenizer
    assert tokenizer.decode(parts.chat.before_ids) == "<|im_start|>system\nYou are a helpful assistant."
    assert tokenizer.decode(parts.chat.suffix_ids) == "<|im_end|>\n<|im_start|>assistant\n"
    for module in (getattr(parts, part) for part in PARTS):
        assert not module.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())


def test_the_loaded_parts_hear_and_speak_as_the_official_ones(llm_folder: Path) -> None:
    """One figure from each end; the models' own tests compare everything."""
    parts = load_official(GOLDEN / "checkpoints", llm_folder)
    encoded = np.load(GOLDEN / "expected" / "encoder.npz")
    features = torch.from_numpy(encoded["feats_full"])
    frames, _ = parts.encoder.encode_features(features, torch.tensor([features.shape[1]]))
    torch.testing.assert_close(frames, torch.from_numpy(encoded["full_out"]), atol=1e-4, rtol=0)
    codec = np.load(GOLDEN / "expected" / "codec.npz")
    waveform = parts.codec.decode(torch.from_numpy(codec["tokens"]))
    torch.testing.assert_close(waveform, torch.from_numpy(codec["wav"])[:, 0], atol=1e-5, rtol=0)


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def test_what_is_written_back_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    folder = GOLDEN / "checkpoints"
    official = read_official(folder)
    write_official(tmp_path / "again", official, dtype=torch.bfloat16)
    again = read_official(tmp_path / "again")
    assert again.model == official.model
    assert again.settings == official.settings
    assert again.weights.keys() == official.weights.keys()
    for name, value in official.weights.items():
        assert torch.equal(again.weights[name], value), name
    for file, added in (
        ("audiollm/final.pt", {"encoder.global_cmvn.mean", "encoder.global_cmvn.istd"}),
        ("decoder/final.pt", set()),
    ):
        before, after = flat(read_pt(folder / file)), flat(read_pt(tmp_path / "again" / file))
        assert after.keys() - before.keys() == added
        for name, value in before.items():
            assert torch.equal(after[name], value), name
            assert after[name].dtype == value.dtype, name
    before, after = flat(read_pt(folder / "codec/final.pt")), flat(read_pt(tmp_path / "again" / "codec/final.pt"))
    assert {name: value.shape for name, value in after.items()} == {name: value.shape for name, value in before.items()}


def test_statistics_in_the_weights_win_over_the_json_file(golden: Path, llm_folder: Path) -> None:
    change = {"encoder.global_cmvn.mean": torch.full((80,), 3.0), "encoder.global_cmvn.istd": torch.full((80,), 0.5)}
    rewrite(golden / "audiollm" / "final.pt", change)
    parts = load_official(golden, llm_folder)
    assert torch.equal(parts.encoder.mean, torch.full((80,), 3.0))
    assert torch.equal(parts.encoder.istd, torch.full((80,), 0.5))


def test_what_inference_does_not_read_is_passed_over(golden: Path, llm_folder: Path) -> None:
    rewrite(golden / "audiollm" / "final.pt", {"llm_decoder.model.norm.weight": torch.ones(128), "step": 7})
    rewrite(golden / "decoder" / "final.pt", {"optimizer": {"state": {}}, "epoch": 3})
    assert isinstance(load_official(golden, llm_folder), Parts)


def test_a_flat_decoder_file_is_accepted(golden: Path) -> None:
    before = read_official(golden).weights
    path = golden / "decoder" / "final.pt"
    write_pt(path, read_pt(path)["model"])
    after = read_official(golden).weights
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("file", ["audiollm/final.pt", "decoder/final.pt", "codec/final.pt"])
def test_missing_and_truncated_files_are_named(golden: Path, file: str) -> None:
    path = golden / file
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(CheckpointError, match=f"{file}: not a whole PyTorch checkpoint"):
        read_official(golden)
    path.unlink()
    with pytest.raises(CheckpointError, match=f"{file}: no such file"):
        read_official(golden)


@pytest.mark.parametrize(
    "file", ["audiollm/train.yaml", "audiollm/global_cmvn", "decoder/model.json", "codec/model.json", "server.json"]
)
def test_missing_configurations_are_named(golden: Path, file: str) -> None:
    (golden / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        read_official(golden)


def test_weights_of_another_family_are_recognised(golden: Path) -> None:
    content = {
        "model.embed_tokens.weight": torch.ones(4, 2),
        "model.layers.0.self_attn.q_proj.weight": torch.ones(2, 2),
        "model.speech_projector.linear1.weight": torch.ones(2, 2),
        "speech_generator.output_proj.weight": torch.ones(2, 2),
    }
    write_pt(golden / "audiollm" / "final.pt", content)
    with pytest.raises(CheckpointError, match=r"audiollm/final\.pt: these are weights of LLaMA-Omni.*model\."):
        read_official(golden)


@pytest.mark.parametrize(
    ("file", "nested", "key"),
    [
        ("audiollm/final.pt", "", "encoder.enc.1.encoders.0.self_attn.linear_pos.weight"),
        ("audiollm/final.pt", "", "adpter.conv1d2.bias"),
        ("audiollm/final.pt", "", "predictor_head.weight"),
        ("decoder/final.pt", "model", "layers_prefix.1.mlp.up_proj.weight"),
        ("codec/final.pt", "generator", "ups.1.weight_v"),
    ],
)
def test_missing_unexpected_and_misshapen_weights_are_named(
    golden: Path, llm_folder: Path, file: str, nested: str, key: str
) -> None:
    path = golden / file
    value = (read_pt(path)[nested] if nested else read_pt(path))[key]
    stem = key.removesuffix("_v").replace(".", r"\.")
    rewrite(path, {key: torch.ones(*value.shape[:-1], value.shape[-1] + 1)}, nested=nested)
    with pytest.raises(CheckpointError, match=r"\(\d+,.*\(\d+,") as misshapen:
        load_official(golden, llm_folder)
    assert file.split("/")[0] in str(misshapen.value) or "codec" in str(misshapen.value)
    rewrite(path, {key: value, "surprise.weight": torch.ones(1)}, nested=nested)
    with pytest.raises(CheckpointError, match=rf"{file}.*unexpected.*surprise\.weight"):
        read_official(golden)
    rewrite(path, drop=key, nested=nested)
    with pytest.raises(CheckpointError, match=rf"{file}.*{stem}"):
        read_official(golden)


def test_the_key_in_a_shape_error_is_the_official_one(golden: Path, llm_folder: Path) -> None:
    rewrite(golden / "audiollm" / "final.pt", {"adpter.project.bias": torch.ones(64)})
    with pytest.raises(
        CheckpointError,
        match=r"audiollm/final\.pt: adpter\.project\.bias has shape \(64,\), the configuration asks for \(128,\)",
    ):
        load_official(golden, llm_folder)


def test_an_llm_is_asked_for() -> None:
    with pytest.raises(CheckpointError, match="--llm"):
        load_official(GOLDEN / "checkpoints", None)
    with pytest.raises(CheckpointError, match="no such folder"):
        read_official(GOLDEN / "absent")


def test_the_published_sizes_fit(llm_folder: Path) -> None:
    """All 600 million weights, as views in half a megabyte each; what is loaded is only looked at."""
    folder = GOLDEN / "official-shape" / "checkpoints"
    official = read_official(folder)
    counts = {
        part: sum(value.numel() for name, value in official.weights.items() if name.startswith(f"{part}."))
        for part in PARTS
    }
    assert counts["encoder"] == 357_950_464 + 160
    assert counts["adapter"] == 17_835_520
    assert counts["prompts"] == 89_600 + 71_680
    assert counts["turn_head"] == 14_340
    assert counts["codec_lm"] == 164_718_980
    check_fit(build_modules(official.model), official.weights, "official-shape", official.names)
    with pytest.raises(CheckpointError, match=r"trained with an LLM of width 3584, .*llm has 128"):
        check_width(official.model.llm_dim, LLM.load(llm_folder), "official-shape")

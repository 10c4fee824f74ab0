import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from icebreaker.checkpoints.bundle import BundleConfig, load_bundle, read_bundle_config, write_bundle
from icebreaker.config import from_mapping, to_mapping
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.duplex import DuplexConfig
from icebreaker.errors import CheckpointError
from icebreaker.models.sampling import SamplingConfig


@pytest.fixture
def bundle(tmp_path: Path, bundle_config: BundleConfig, weights: dict[str, Tensor], llm_folder: Path) -> Path:
    write_bundle(tmp_path / "mini", bundle_config, weights, "# Card\n", llm_folder=llm_folder)
    return tmp_path / "mini"


def test_a_bundle_builds_itself(bundle: Path, weights: dict[str, Tensor]) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == [
        "MODEL_CARD.md",
        "config.json",
        "llm",
        "model.safetensors",
    ]
    parts = load_bundle(bundle)
    for part in ("encoder", "adapter", "prompts", "turn_head", "codec_lm", "codec"):
        module = getattr(parts, part)
        assert not module.training
        for name, value in module.state_dict().items():
            assert torch.equal(value, weights[f"{part}.{name}"]), (part, name)
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert parts.llm.width == 128
    assert parts.voice is None
    assert parts.settings == DialogueSettings()


def test_others_may_read_it(
    tmp_path: Path, bundle_config: BundleConfig, weights: dict[str, Tensor], llm_folder: Path
) -> None:
    private = tmp_path / "private"
    shutil.copytree(llm_folder, private)
    for path in (private, *private.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
    before = os.umask(0o022)
    try:
        write_bundle(tmp_path / "open", bundle_config, weights, "", llm_folder=private)
    finally:
        os.umask(before)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "open").rglob("*")}
    assert all((path.stat().st_mode & 0o777) == modes[path.is_dir()] for path in (tmp_path / "open").rglob("*"))
    assert modes == {True: 0o755, False: 0o644}


def test_the_configuration_survives_the_trip(bundle: Path, bundle_config: BundleConfig) -> None:
    assert read_bundle_config(bundle) == bundle_config
    settings = DialogueSettings(
        speech=SamplingConfig(top_k=3, penalty_window=5), duplex=DuplexConfig(answer_silence=True), max_codes=77
    )
    changed = replace(bundle_config, settings=settings)
    again = from_mapping(BundleConfig, json.loads(json.dumps(to_mapping(changed))), "x")
    assert again == changed


def test_half_precision_is_stored_and_upcast(
    tmp_path: Path, bundle_config: BundleConfig, weights: dict[str, Tensor], llm_folder: Path
) -> None:
    big = dict(weights)
    big["encoder.mean"] = torch.full_like(weights["encoder.mean"], 11.8370001)
    big["turn_head.linear.bias"] = torch.full_like(weights["turn_head.linear.bias"], 1e6)  # too large for float16
    write_bundle(tmp_path / "b", bundle_config, big, "", storage="float16", llm_folder=llm_folder)
    stored = load_file(tmp_path / "b" / "model.safetensors")
    assert stored["adapter.project.weight"].dtype == torch.float16
    assert stored["encoder.mean"].dtype == stored["turn_head.linear.bias"].dtype == torch.float32
    parts = load_bundle(tmp_path / "b")
    assert parts.adapter.project.weight.dtype == torch.float32
    assert torch.equal(parts.adapter.project.weight, weights["adapter.project.weight"].half().float())
    assert torch.equal(parts.encoder.mean, big["encoder.mean"])


def test_dtype_is_that_of_the_llm_and_what_surrounds_it(bundle: Path) -> None:
    parts = load_bundle(bundle, dtype=torch.bfloat16)
    assert parts.codec_lm.head.weight.dtype == parts.turn_head.linear.weight.dtype == torch.bfloat16
    assert parts.llm.embedding.weight.dtype == torch.bfloat16
    assert next(parts.codec.parameters()).dtype == torch.float32


def test_another_llm_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle / "llm", tmp_path / "other"))
    tensors = load_file(other / "model.safetensors")
    name = min(tensors)
    save_file(tensors | {name: tensors[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    expected = read_bundle_config(bundle).llm.sha256
    with pytest.raises(CheckpointError, match=f"sha256 {expected}.*other has sha256 [0-9a-f]{{64}}.*spoken_qa"):
        load_bundle(bundle, other)


def test_a_bundle_without_its_llm_asks_for_it(
    tmp_path: Path, bundle_config: BundleConfig, weights: dict[str, Tensor], llm_folder: Path
) -> None:
    config = replace(bundle_config, llm=replace(bundle_config.llm, path=None))
    write_bundle(tmp_path / "b", config, weights, "")
    assert not (tmp_path / "b" / "llm").exists()
    with pytest.raises(CheckpointError, match="give the Hugging Face folder of tiny"):
        load_bundle(tmp_path / "b")
    assert load_bundle(tmp_path / "b", llm_folder).llm.width == 128


def test_widths_must_meet(bundle: Path) -> None:
    values = json.loads((bundle / "config.json").read_text())
    values["llm"]["width"] = 64
    (bundle / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"config\.json: llm width 64 is not the adapter's llm_dim 128"):
        load_bundle(bundle)


def test_damage_is_named(bundle: Path) -> None:
    path = bundle / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a whole safetensors file"):
        load_bundle(bundle)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load_bundle(bundle)


def test_weights_that_do_not_fit_are_named(bundle: Path, weights: dict[str, Tensor]) -> None:
    path = bundle / "model.safetensors"
    save_file({**weights, "turn_head.linear.bias": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match=r"turn_head\.linear\.bias has shape \(3,\), the configuration .* \(4,\)"):
        load_bundle(bundle)
    save_file({name: value for name, value in weights.items() if name != "turn_head.linear.bias"}, path)
    with pytest.raises(CheckpointError, match=r"missing turn_head\.linear\.bias"):
        load_bundle(bundle)
    save_file({**weights, "vocoder.weight": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match=r"unexpected vocoder\.weight"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "newer version"),
        ({"family": "moshi"}, "family: expected one of"),
        ({"family": "llama-omni"}, "the parts are those of 'freeze-omni'"),
        ({"extra": 1}, "unknown key 'extra'"),
    ],
)
def test_other_configurations_are_refused(bundle: Path, change: dict[str, object], message: str) -> None:
    path = bundle / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        read_bundle_config(bundle)


def test_a_hugging_face_folder_is_no_bundle(llm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="it names no family"):
        read_bundle_config(llm_folder)
    with pytest.raises(CheckpointError, match="so no bundle"):
        read_bundle_config(tmp_path)


def test_writing_replaces_a_bundle_and_nothing_else(
    bundle: Path, bundle_config: BundleConfig, weights: dict[str, Tensor], llm_folder: Path, tmp_path: Path
) -> None:
    write_bundle(bundle, bundle_config, weights, "# New card\n", llm_folder=llm_folder)
    assert (bundle / "MODEL_CARD.md").read_text() == "# New card\n"
    assert sorted(path.name for path in bundle.parent.iterdir() if path.name.startswith("mini")) == ["mini"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("keep me")
    with pytest.raises(CheckpointError, match="exists and is no bundle"):
        write_bundle(tmp_path / "notes", bundle_config, weights, "", llm_folder=llm_folder)
    assert (tmp_path / "notes" / "todo.txt").read_text() == "keep me"


def test_a_full_disk_leaves_the_old_bundle_whole(
    bundle: Path,
    bundle_config: BundleConfig,
    weights: dict[str, Tensor],
    llm_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(weights: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("icebreaker.checkpoints.bundle.write_weights", full)
    with pytest.raises(CheckpointError, match=r"mini: could not write the bundle: .*No space left on device"):
        write_bundle(bundle, bundle_config, weights, "# New card\n", llm_folder=llm_folder)
    assert (bundle / "MODEL_CARD.md").read_text() == "# Card\n"
    assert load_bundle(bundle).llm.width == 128
    assert sorted(path.name for path in bundle.parent.iterdir() if path.name.startswith("mini")) == ["mini"]


def test_weights_that_do_not_fit_are_not_written(
    tmp_path: Path, bundle_config: BundleConfig, weights: dict[str, Tensor], llm_folder: Path
) -> None:
    del weights["turn_head.linear.bias"]
    with pytest.raises(CheckpointError, match="missing turn_head"):
        write_bundle(tmp_path / "b", bundle_config, weights, "", llm_folder=llm_folder)
    assert not (tmp_path / "b").exists()

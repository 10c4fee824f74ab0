"""The codec stage at toy size: phases, resuming, what it leaves behind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_answers import CODEC as MODEL
from toy_answers import RATE, write_beeps
from toy_answers import codec_stage as config

from icebreaker.checkpoints.stage_folders import UNPACKED
from icebreaker.config import from_mapping, load_toml, to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.errors import DataError, TrainingError
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.training.codec import CodecStage, CodecTrainingConfig, run, write_codes
from icebreaker.training.codec_batches import SegmentSource, cut, levelled, read_recordings
from icebreaker.training.loop import StepReport
from icebreaker.training.stage_files import load_into, save_stage, stage_config


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_beeps(tmp_path / "answers")


def test_codes_are_chosen_in_float32_whatever_the_rest_is_computed_in(manifest: Path, tmp_path: Path) -> None:
    plain = config(manifest, tmp_path / "out")
    stage = CodecStage(replace(plain, optim=replace(plain.optim, dtype="bfloat16")))
    stage.run.step = plain.quantise_from
    batch = next(stage.batches(0))
    with torch.autocast("cpu", torch.bfloat16):
        latents, commitment, _ = stage.latents(batch.waveform)
        mel, _ = stage.spectral(stage.synthesise(latents), stage.judged(batch.waveform))
    assert {latents.dtype, commitment.dtype, mel.dtype} == {torch.float32}
    assert stage.averages.ready
    run(replace(plain, output=tmp_path / "whole", optim=replace(plain.optim, dtype="bfloat16")))
    rows_of = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows_of if "loss" in row] == list(range(1, 9))


def test_resuming_equals_going_on(manifest: Path, tmp_path: Path) -> None:
    """Stopped twice: once while everything learns, once against the judges."""
    whole, broken = config(manifest, tmp_path / "whole"), config(manifest, tmp_path / "broken")
    run(whole)
    for stop in (4, 7):

        def stop_there(report: StepReport, stop: int = stop) -> None:
            if report.step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(broken, stop_there)
    run(broken)
    a, b = (torch.load(each.output / "last.pt", weights_only=True) for each in (whole, broken))
    assert a["step"] == b["step"] == 8
    flat_a, flat_b = torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b)
    assert all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(flat_a, flat_b, strict=True)
    )
    assert (whole.output / "codes.jsonl").read_text() == (broken.output / "codes.jsonl").read_text()


def test_what_a_run_leaves(manifest: Path, tmp_path: Path) -> None:
    settings = config(manifest, tmp_path / "out")
    at_freeze: dict[str, torch.Tensor] = {}

    def watch(report: StepReport) -> None:
        if report.step == 6:  # the first step of the second phase has just been taken
            codec = Codec(MODEL)
            load_into(codec, settings.output, "codec")
            at_freeze.update(codec.state_dict())

    run(settings, watch)
    codec = Codec(from_mapping(CodecConfig, stage_config(settings.output)["model"], "config.json"))
    load_into(codec, settings.output, "codec")
    after = codec.state_dict()
    frozen = {key for key in after if key.startswith(("encoder.", "quantizer."))}
    assert all(torch.equal(after[key], at_freeze[key]) for key in frozen)
    assert not torch.equal(after["generator.conv_pre.weight"], at_freeze["generator.conv_pre.weight"])
    rows = [json.loads(line) for line in (settings.output / "codes.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a0", "a1", "a2"]
    assert all(len(row["codes"]) == 40 and max(row["codes"]) < 8 for row in rows)
    metrics = [json.loads(line) for line in (settings.output / "metrics.jsonl").read_text().splitlines()]
    steps = {row["step"]: row for row in metrics if "loss" in row}
    assert all(np.isfinite(row["loss"]) for row in steps.values())
    assert "perplexity" not in steps[2]
    assert steps[3]["perplexity"] > 1
    assert "fooled" not in steps[6]  # the judges learn alone at first
    assert steps[7]["fooled"] > 0
    assert metrics[-1]["evaluation"]["codes_used"] >= 1


def test_codes_are_written_once_for_every_delay(manifest: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = Codec(MODEL)
    plain = torch.from_numpy(next(iter(read_recordings(read_manifest(manifest), RATE))))
    codec.quantizer.codebook(0).data = codec.encoder(plain[None])[0][0].mT[::5].detach()  # codes that tell sounds apart
    write_codes(codec, manifest, tmp_path / "codes.jsonl", (0.0, 0.025, 0.01))
    rows = [json.loads(line) for line in (tmp_path / "codes.jsonl").read_text().splitlines()]
    assert [(row["id"], row["delay_s"]) for row in rows[:4]] == [("a0", 0.0), ("a0", 0.025), ("a0", 0.01), ("a1", 0.0)]
    assert rows[2]["codes"] == codec.encode(torch.nn.functional.pad(plain, (240, 0))[None])[0][0].tolist()
    assert rows[2]["codes"] != rows[0]["codes"]


def test_the_codec_of_a_bundle_stays_and_its_codes_are_written(manifest: Path, tmp_path: Path) -> None:
    settings = config(manifest, tmp_path)
    save_stage(tmp_path, {"codec": Codec(MODEL)}, {UNPACKED: "mini", "model": to_mapping(MODEL)})
    before = (tmp_path / "model.safetensors").read_bytes()
    run(settings)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "metrics.jsonl").exists()
    assert len((tmp_path / "codes.jsonl").read_text().splitlines()) == 3
    (tmp_path / "codes.jsonl").write_text("kept")
    run(settings)
    assert (tmp_path / "codes.jsonl").read_text() == "kept"


def test_a_further_round_moves_the_generator_only(manifest: Path, tmp_path: Path) -> None:
    first = config(manifest, tmp_path / "first")
    run(first)
    more = replace(
        first, output=tmp_path / "more", start_from=first.output, quantise_from=0, freeze_at=0, evaluate_every=4
    )
    run(more)
    before, after = (load_file(each.output / "model.safetensors") for each in (first, more))
    assert before.keys() == after.keys()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert {key.split(".")[1] for key in moved} == {"generator"}
    assert not (more.output / "codes.jsonl").exists()
    rows = [json.loads(line) for line in (more.output / "metrics.jsonl").read_text().splitlines()]
    assert all("fooled" in row for row in rows if "loss" in row and row["step"] > more.adversary.warmup)
    assert [row["evaluation"]["codes_used"] > 0 for row in rows if "evaluation" in row] == [True, True]
    with pytest.raises(ValueError, match="start_from: codes stay"):
        replace(more, freeze_at=6)


def test_loss_falls(manifest: Path, tmp_path: Path) -> None:
    settings = config(manifest, tmp_path / "out", steps=40)
    settings = replace(settings, freeze_at=40, optim=replace(settings.optim, lr=5e-3))
    losses: list[float] = []
    run(settings, lambda report: losses.append(report.parts["mel"]))
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_weight_norm_and_codebook_are_in_the_checkpoint(manifest: Path, tmp_path: Path) -> None:
    state = CodecStage(config(manifest, tmp_path / "out")).run.state_dict()
    assert "quantizer.books.0.weight" in state["modules"]["codec"]
    assert set(state["also"]) == {"averages", "judges", "judges_optimizer"}


def test_segments_are_a_function_of_seed_and_number(manifest: Path) -> None:
    source = SegmentSource(manifest, "train", RATE)
    first, second = (source.batches(0, seed=1, rows=2, samples=1200, margin=600) for _ in range(2))
    next(first)
    later = source.batches(1, seed=1, rows=2, samples=1200, margin=600)
    next(second)
    batch = next(later).waveform
    assert torch.equal(batch, next(second).waveform)
    assert batch.shape == (2, 2400)
    other = next(source.batches(1, seed=2, rows=2, samples=1200, margin=600)).waveform
    assert not torch.equal(batch, other)


def test_cutting_and_levelling() -> None:
    recording = np.arange(1, 11, dtype=np.int16)
    assert cut(recording, 0, 3, 2).tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert cut(recording, 8, 3, 2).tolist() == [7, 8, 9, 10, 0, 0, 0]
    assert cut(recording, -4, 2, 1).tolist() == [0, 0, 0, 0]
    assert cut(recording, 12, 2, 1).tolist() == [0, 0, 0, 0]
    loud = levelled(np.sin(np.arange(24_000) / 9).astype(np.float32) * 0.9)
    assert np.sqrt(np.mean(loud**2)) == pytest.approx(0.1, rel=0.02)
    assert not levelled(np.zeros(5, np.float32)).any()


def test_misuse_is_named(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recording of split 'none'"):
        SegmentSource(manifest, "none", RATE)
    with pytest.raises(ValueError, match="quantise_from < freeze_at"):
        replace(config(manifest, tmp_path), quantise_from=6)
    with pytest.raises(ValueError, match="delays_s"):
        replace(config(manifest, tmp_path), delays_s=(0.0, -0.01))
    with pytest.raises(ValueError, match="one codebook"):
        replace(config(manifest, tmp_path), model=CodecConfig())
    small = config(manifest, tmp_path / "out", steps=6)
    run(small)
    (small.output / "last.pt").rename(small.output / "kept.pt")
    other = replace(small, model=replace(MODEL, latent_dim=6))
    (small.output / "kept.pt").rename(small.output / "last.pt")
    with pytest.raises(TrainingError, match="expected shape"):
        run(other)


def test_the_shipped_configuration_is_whole() -> None:
    path = Path(__file__).parents[2] / "configs" / "mini" / "codec.toml"
    settings = load_toml(path, CodecTrainingConfig)
    more = load_toml(path.with_name("codec_more.toml"), CodecTrainingConfig)
    assert (more.start_from, more.model) == (settings.output, settings.model)
    assert settings.model.hop_length == 600
    assert settings.model.codes == 1024

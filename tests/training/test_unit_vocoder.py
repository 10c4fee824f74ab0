import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from icebreaker.data.manifest import Item, write_manifest
from icebreaker.errors import DataError
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.training.adversary import AdversaryConfig
from icebreaker.training.loop import OptimConfig
from icebreaker.training.stage_files import load_into
from icebreaker.training.unit_vocoder import UnitVocoderStage, UnitVocoderTrainingConfig, run
from icebreaker.training.unit_vocoder_batches import OUTSIDE, SpokenUnitSource

HOP = 8 * 5
MODEL = UnitVocoderConfig(
    units=4, sample_rate=2000, latent_dim=8, upsample_rates=(8, 5), upsample_kernel_sizes=(16, 11),
    upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),), resblock="2",
    duration_hidden=48,
)  # fmt: skip
FREQUENCIES = (0, 200, 400, 700)


def recording(rng: np.random.Generator) -> tuple[list[int], list[int], np.ndarray]:
    """Units 0 to 3 are silence and three tones; unit u lasts 2 + u frames."""
    units = [0, *(int(u) for u in rng.permutation([1, 2, 3, 1, 2, 3])), 0]
    units = [u for i, u in enumerate(units) if i == 0 or u != units[i - 1]]
    durations = [2 + u for u in units]
    pieces = [
        np.sin(2 * np.pi * FREQUENCIES[u] * np.arange(d * HOP) / 2000) for u, d in zip(units, durations, strict=True)
    ]
    return units, durations, 0.3 * np.concatenate(pieces)


@pytest.fixture
def config(tmp_path: Path) -> UnitVocoderTrainingConfig:
    rng, items, rows = np.random.default_rng(0), [], []
    for number in range(8):
        units, durations, sound = recording(rng)
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, sound, 2000)
        split = "valid" if number > 5 else "train"
        items.append(Item(id=f"a{number}", audio=path, seconds=len(sound) / 2000, text="x", split=split))
        rows.append(json.dumps({"id": f"a{number}", "units": units, "durations": durations}))
    write_manifest(tmp_path / "manifest.jsonl", items)
    (tmp_path / "units.jsonl").write_text("\n".join(rows) + "\n")
    return UnitVocoderTrainingConfig(
        output=tmp_path / "out", data=tmp_path / "manifest.jsonl", units=tmp_path / "units.jsonl", model=MODEL,
        optim=OptimConfig(steps=6, lr=5e-3, warmup=1, log_every=1, save_every=1),
        adversary=AdversaryConfig(periods=(2,), windows=(64,), channels=4, warmup=1), adversary_from=2, rows=3,
        segment_frames=30, margin_frames=3, evaluate_recordings=2, evaluate_every=0,
    )  # fmt: skip


def test_segments_lie_beside_their_units(config: UnitVocoderTrainingConfig) -> None:
    source = SpokenUnitSource(config.data, config.units, "train", 2000, HOP)
    seen_outside = False
    for batch, _ in zip(source.batches(0, seed=1, rows=4, frames=5, margin=3), range(8), strict=False):
        assert batch.frames.shape == (4, 11)
        seen_outside |= bool((batch.frames == OUTSIDE).any())
        for units, sound in zip(batch.frames[:, 3:8], batch.waveform.split(1), strict=True):
            for unit, piece in zip(units.tolist(), sound[0].view(5, HOP), strict=True):
                loud = float(piece.abs().max())
                assert (loud < 1e-3) == (unit == 0)
                if unit > 0:
                    loudest = int(torch.fft.rfft(piece).abs().argmax()) * 2000 / HOP
                    assert loudest == pytest.approx(FREQUENCIES[unit], abs=50)
    assert seen_outside


def test_batches_can_begin_anywhere(config: UnitVocoderTrainingConfig) -> None:
    source = SpokenUnitSource(config.data, config.units, "train", 2000, HOP)
    options = {"seed": 1, "rows": 2, "frames": 5, "margin": 3}
    late, early = source.batches(4, **options), source.batches(0, **options)
    for _ in range(4):
        next(early)
    one, other = next(late), next(early)
    assert torch.equal(one.frames, other.frames)
    assert torch.equal(one.waveform, other.waveform)


def test_the_middle_sounds_as_in_the_whole(config: UnitVocoderTrainingConfig) -> None:
    """What is left out at the margins does not reach the judged segment."""
    stage = UnitVocoderStage(replace(config, margin_frames=6))
    stage.vocoder.eval()
    frames = torch.randint(0, 4, (2, 24))
    whole = stage.vocoder.decode(frames)[:, 6 * HOP : -6 * HOP]
    middle = stage.synthesise(frames)
    inner = slice(HOP, -HOP)  # the transposed convolutions reach a frame further
    torch.testing.assert_close(middle[:, inner], whole[:, inner], atol=1e-5, rtol=1e-4)


def test_a_resumed_run_equals_an_uninterrupted_one(config: UnitVocoderTrainingConfig) -> None:
    run(config)
    stopped = replace(config, output=config.output.with_name("stopped"))
    for steps in (1, 4):  # before the judges speak, and after

        def stop(report: object, at: int = steps) -> None:
            if report.step == at + 1:  # type: ignore[attr-defined]
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(stopped, stop)
    run(stopped)
    one, other = (load_file(each.output / "model.safetensors") for each in (config, stopped))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_a_second_run_begins_where_the_first_ended(config: UnitVocoderTrainingConfig) -> None:
    run(config)
    again = UnitVocoderStage(replace(config, output=config.output / "again", start_from=config.output))
    left = UnitVocoder(MODEL)
    load_into(left, config.output, "vocoder")
    frames = torch.tensor([[0, 1, 1, 2, 3, 0]])
    torch.testing.assert_close(again.vocoder.eval().decode(frames), left.eval().decode(frames))


def test_it_learns_sound_and_durations(config: UnitVocoderTrainingConfig) -> None:
    longer = replace(config, optim=replace(config.optim, steps=150, log_every=150), adversary_from=1000)
    run(longer)
    rows = [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]
    fresh = UnitVocoderStage(config).evaluate()
    learnt = rows[-1]["evaluation"]
    assert learnt["mel"] < 0.6 * fresh["mel"]
    assert learnt["duration_error_frames"] < 0.5 < fresh["duration_error_frames"]
    vocoder = UnitVocoder(MODEL)
    load_into(vocoder, config.output, "vocoder")  # weights are plain again
    frames, real = UnitVocoderStage(config).held_out.whole(0)
    assert (vocoder.eval().decode(frames) - real).abs().mean().item() < 0.3


def test_every_loss_is_in_the_log(config: UnitVocoderTrainingConfig) -> None:
    run(config)
    rows = [json.loads(line) for line in (config.output / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert "judges" not in steps[1]
    assert {"judges", "fooled", "matching", "mel", "magnitude", "duration"} <= steps[4].keys()
    parts = steps[4]
    total = parts["mel"] + 0.5 * parts["magnitude"] + parts["duration"] + parts["fooled"] + 2 * parts["matching"]
    assert math.isclose(parts["loss"], total, rel_tol=1e-4)


def test_units_the_model_does_not_know(config: UnitVocoderTrainingConfig) -> None:
    with pytest.raises(DataError, match=r"holds unit 3, model.units is 3"):
        UnitVocoderStage(replace(config, model=replace(MODEL, units=3)))
    with pytest.raises(DataError, match="no units for any 'test' recording"):
        SpokenUnitSource(config.data, config.units, "test", 2000, HOP)

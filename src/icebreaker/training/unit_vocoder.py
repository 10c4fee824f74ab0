"""Stage: the unit vocoder of one voice (arXiv:2409.06666v2, section 3.4; recipe after arXiv:2104.00355 and HiFi-GAN).

The generator learns sound from units with their true durations, against the codec's judges; the duration predictor
learns, beside it, how long each unit of a whole recording lasts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from icebreaker.config import to_mapping
from icebreaker.errors import DataError
from icebreaker.models.codec_layers import add_weight_norm, fold_weight_norm
from icebreaker.models.unit_vocoder import UnitVocoder, UnitVocoderConfig
from icebreaker.training.adversary import Adversary, AdversaryConfig
from icebreaker.training.codec_losses import SpectralLoss
from icebreaker.training.devices import device_of, moved
from icebreaker.training.loop import OptimConfig, Run, StepReport, learning_rate, train
from icebreaker.training.processes import mean_tensor, rows_of
from icebreaker.training.run import begun
from icebreaker.training.stage_files import load_into, save_stage
from icebreaker.training.unit_extraction import SpokenUnits
from icebreaker.training.unit_vocoder_batches import OUTSIDE, SpokenUnitSource, VocoderBatch
from icebreaker.training.unit_vocoder_start import load_codec, start_as_codec

__all__ = ["UnitVocoderStage", "UnitVocoderTrainingConfig", "run"]

EDGE = 1  # frames beyond the judged segment that are synthesised too, so that its ends sound as within speech


@dataclass(frozen=True, kw_only=True)
class UnitVocoderTrainingConfig:
    """Everything of one run of this stage; ``data`` is the manifest that the units are of."""

    stage: str = "unit_vocoder"
    output: Path
    data: Path
    units: Path  # units.jsonl of stage units, or of data instruct-s2s
    model: UnitVocoderConfig
    optim: OptimConfig
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    adversary_from: int = 1000  # steps of spectral losses alone
    recordings: int | None = None  # to learn from, the first so many; None: all
    rows: int = 16
    segment_frames: int = 28  # the published segment of 8960 samples
    margin_frames: int = 8  # around a segment, seen by the layers at frame rate
    mel_weight: float = 1.0
    magnitude_weight: float = 0.5
    duration_weight: float = 1.0
    start_from: Path | None = None  # folder of an earlier run of this stage
    start_as: Path | None = None  # ours: folder of stage codec, whose generator it begins with
    start_recordings: int = 300  # that tell what each unit is to the codec
    evaluate_every: int = 500
    evaluate_recordings: int = 16

    def __post_init__(self) -> None:
        if self.margin_frames <= EDGE or self.optim.accumulate != 1:
            raise ValueError(f"margin_frames must be over {EDGE}, and accumulate 1: the judges step with every batch")


class UnitVocoderStage:
    """Everything of a run: vocoder, judges, losses, data."""

    def __init__(self, config: UnitVocoderTrainingConfig) -> None:
        self.config, self.device = config, device_of(config)
        torch.manual_seed(config.optim.seed)
        self.vocoder = UnitVocoder(config.model)
        self.source, self.held_out = (
            SpokenUnitSource(config.data, config.units, split, config.model.sample_rate, config.model.hop_length, limit)
            for split, limit in (("train", config.recordings), ("valid", config.evaluate_recordings))
        )
        for source in (self.source, self.held_out):
            check_units(source.spoken, config.model.units, config.units)
        if config.start_from is not None:
            load_into(self.vocoder, config.start_from, "vocoder")
        elif config.start_as is not None and not begun(config.output):
            known = range(min(config.start_recordings, len(self.source.spoken)))
            start_as_codec(self.vocoder, load_codec(config.start_as), (self.source.whole(index) for index in known))
        add_weight_norm(self.vocoder)
        self.vocoder.to(self.device)
        self.adversary = Adversary(config.adversary, self.device)
        self.spectral = SpectralLoss(config.model.sample_rate).to(self.device)
        self.run = Run({"vocoder": self.vocoder}, config.optim, also=self.adversary.parts, rows_dealt=True)

    def batches(self, first: int) -> Iterator[VocoderBatch]:
        """Training batches from number ``first`` on; of several processes each has its rows of them."""
        config, own = self.config, rows_of(self.config.rows)
        whole = self.source.batches(
            first, seed=config.optim.seed, rows=config.rows, frames=config.segment_frames, margin=config.margin_frames
        )
        shares = (VocoderBatch(batch.frames[own], batch.waveform[own], batch.spoken[own]) for batch in whole)
        return (moved(share, self.device) for share in shares)

    def loss(self, batch: VocoderBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The vocoder's loss on one batch; the judges take their own step here."""
        config = self.config
        self.vocoder.train()
        made, real = self.synthesise(batch.frames), batch.waveform
        mel, magnitude = self.spectral(made, real)
        duration = self.duration_loss(batch.spoken)
        loss = config.mel_weight * mel + config.magnitude_weight * magnitude + config.duration_weight * duration
        parts = {"mel": mel, "magnitude": magnitude, "duration": duration}
        steps = self.run.step - config.adversary_from
        if steps >= 0:
            rate = learning_rate(self.run.step, config.optim) / config.optim.lr
            opinion, opinions = self.adversary.opinions(made, real, steps=steps, rate=rate)
            loss, parts = loss + opinion, parts | opinions
        return loss, parts

    def synthesise(self, frames: Tensor) -> Tensor:
        """Waveform [B, S] of the middle of units [B, T] with margins; only what reaches it is computed."""
        inside = frames != OUTSIDE
        latents = (self.vocoder.embedding(frames.clamp_min(0)) * inside[..., None]).mT
        cut, hop = self.config.margin_frames - EDGE, self.config.model.hop_length
        x = self.vocoder.generator.frames(latents)[..., cut : frames.shape[1] - cut]
        waveform: Tensor = self.vocoder.generator.upsample(x, None)
        return waveform[:, EDGE * hop : waveform.shape[1] - EDGE * hop]

    def duration_loss(self, spoken: list[SpokenUnits]) -> Tensor:
        """Mean square of the error in the logarithm of one more than the frames; each recording whole, by itself."""
        predicted = torch.cat([self.vocoder.log_durations(each.units[None])[0] for each in spoken])
        durations = torch.cat([each.durations for each in spoken])
        loss = F.mse_loss(predicted, torch.log1p(durations.float()), reduction="sum")
        return loss / mean_tensor(loss.new_tensor(len(durations)))  # rows of other processes may be longer

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Distances of whole held-out recordings spoken from their units, and frames that durations are off by."""
        self.vocoder.eval()
        mels, magnitudes, off = list[float](), list[float](), list[Tensor]()
        for index, each in enumerate(self.held_out.spoken):
            spoken, (frames, real) = moved((each, self.held_out.whole(index)), self.device)
            mel, magnitude = self.spectral(self.vocoder.decode(frames), real)
            mels.append(float(mel))
            magnitudes.append(float(magnitude))
            off.append((self.vocoder.durations(spoken.units[None])[0] - spoken.durations).abs().float())
        return {
            "mel": float(np.mean(mels)),
            "magnitude": float(np.mean(magnitudes)),
            "duration_error_frames": float(torch.cat(off).mean()),
        }

    def save(self) -> None:
        """Write the vocoder with plain weights."""
        plain = UnitVocoder(self.config.model)
        add_weight_norm(plain)
        plain.load_state_dict(self.vocoder.state_dict())
        fold_weight_norm(plain)
        save_stage(self.config.output, {"vocoder": plain}, to_mapping(self.config))


def check_units(spoken: list[SpokenUnits], units: int, where: Path) -> None:
    """Raise DataError where a recording has a unit that the model does not know."""
    largest = max(int(each.units.max()) for each in spoken)
    if largest >= units:
        raise DataError(
            f"{where}: holds unit {largest}, model.units is {units}; set it to the number of k-means centres"
        )


def run(config: UnitVocoderTrainingConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leave ``model.safetensors`` (``vocoder.*``) and ``config.json`` in ``config.output``."""
    config.output.mkdir(parents=True, exist_ok=True)
    stage = UnitVocoderStage(config)
    train(
        stage.run, stage.batches, stage.loss, config.output,
        evaluate=stage.evaluate, evaluate_every=config.evaluate_every, progress=progress,
    )  # fmt: skip
    stage.save()

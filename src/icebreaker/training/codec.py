"""Stage: the speech codec of one voice (arXiv:2411.00774, output side, stage 1).

Two phases in one run. First encoder, codebook and generator learn together; the codebook joins after a while, started
from clusters of the latents. Then encoder and codebook are frozen, the codes of all answers are written (the codec LM
can start on them), and the generator alone goes on against discriminators. A further round, with ``start_from``, is the
second phase again. Our recipe: the paper gives none.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.checkpoints.stage_folders import UNPACKED
from icebreaker.config import from_mapping, to_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.errors import DataError
from icebreaker.models.codec import Codec, CodecConfig, nearest
from icebreaker.models.codec_layers import add_weight_norm, fold_weight_norm
from icebreaker.training.adversary import Adversary, AdversaryConfig
from icebreaker.training.codebook import CodebookAverages
from icebreaker.training.codec_batches import CodecBatch, SegmentSource, read_recordings
from icebreaker.training.codec_losses import SpectralLoss
from icebreaker.training.devices import device_of, moved
from icebreaker.training.loop import OptimConfig, Run, StepReport, learning_rate, train
from icebreaker.training.processes import main_first, rows_of, whole_rows
from icebreaker.training.stage_files import load_into, save_stage, stage_config

__all__ = ["CodecStage", "CodecTrainingConfig", "run", "write_codes"]

logger = logging.getLogger(__name__)
EDGE = 1  # codes beyond the judged segment that are synthesised too, so that its ends sound as within speech


@dataclass(frozen=True, kw_only=True)
class CodecTrainingConfig:
    """What trains and on what; ``data`` is the manifest of the answers."""

    optim: OptimConfig
    model: CodecConfig
    data: Path
    output: Path
    freeze_at: int  # step from which encoder and codebook stay as they are
    stage: str = "codec"
    start_from: Path | None = None  # folder of an earlier run: all codes stay what they are, its generator goes on
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    rows: int = 6
    segment_codes: int = 20
    margin_codes: int = 8  # around a segment, seen by the layers at code rate
    quantise_from: int = 400
    cluster_batches: int = 60
    delays_s: tuple[float, ...] = (0.0,)  # every recording's codes are written once for each, see ``write_codes``
    mel_weight: float = 1.0
    magnitude_weight: float = 0.5
    commitment_weight: float = 0.25
    evaluate_every: int = 500
    evaluate_recordings: int = 16
    threads: int = 0

    def __post_init__(self) -> None:
        if self.model.codebooks != 1 or self.model.voice_codes:
            raise ValueError("this stage trains one codebook and one voice: code_groups 1, residual_layers 1, no voice")
        if self.optim.accumulate != 1:
            raise ValueError(f"optim.accumulate: this stage takes 1, got {self.optim.accumulate}; change rows instead")
        if self.start_from is None and not 0 <= self.quantise_from < self.freeze_at <= self.optim.steps:
            raise ValueError("expected 0 <= quantise_from < freeze_at <= steps")
        if self.start_from is not None and (self.quantise_from or self.freeze_at):
            raise ValueError("start_from: codes stay what they are, so quantise_from and freeze_at have to be 0")
        if not self.delays_s or min(self.delays_s) < 0:
            raise ValueError(f"delays_s: expected at least one, none negative, got {list(self.delays_s)}")
        if self.margin_codes <= EDGE:
            raise ValueError(f"margin_codes must be over {EDGE}")


class CodecStage:
    """Everything of a run: models, judges, losses, and where the run stands."""

    def __init__(self, config: CodecTrainingConfig) -> None:
        self.config, self.device = config, device_of(config)
        torch.manual_seed(config.optim.seed)
        self.codec = Codec(config.model)
        if config.start_from is not None:
            load_into(self.codec, config.start_from, "codec")
            self.codec.requires_grad_(False)
        add_weight_norm(self.learning(self.codec).requires_grad_(True))
        self.codec.to(self.device)
        self.book = self.codec.quantizer.codebook(0)
        self.averages = CodebookAverages(self.book.data)
        self.adversary = Adversary(config.adversary, self.device)
        self.spectral = SpectralLoss(config.model.sample_rate).to(self.device)
        self.run = Run(
            {"codec": self.codec}, config.optim,
            also={"averages": self.averages, **self.adversary.parts}, rows_dealt=True,
        )  # fmt: skip
        self.source = SegmentSource(config.data, "train", config.model.sample_rate)
        self.on_freeze: Callable[[], None] = lambda: None
        self.seen_frozen = False

    def learning(self, codec: Codec) -> nn.Module:
        """What of a codec this run moves."""
        return codec if self.config.start_from is None else codec.generator

    @property
    def fixed(self) -> bool:
        """Whether encoder and codebook stay as they are by now."""
        return self.run.step >= self.config.freeze_at

    def batches(self, first: int) -> Iterator[CodecBatch]:
        """Training batches from number ``first`` on; of several processes each has its rows of them."""
        hop, own = self.config.model.hop_length, rows_of(self.config.rows)
        whole = self.source.batches(
            first, seed=self.config.optim.seed, rows=self.config.rows,
            samples=self.config.segment_codes * hop, margin=self.config.margin_codes * hop,
        )  # fmt: skip
        return (moved(CodecBatch(batch.waveform[own]), self.device) for batch in whole)

    def loss(self, batch: CodecBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The generator's (and encoder's) loss on one batch; the codebook and the judges take their own steps here."""
        config = self.config
        if self.fixed and not self.seen_frozen:
            self.on_freeze()
            self.seen_frozen = True
        latents, commitment, parts = self.latents(batch.waveform)
        made, real = self.synthesise(latents), self.judged(batch.waveform)
        mel, magnitude = self.spectral(made, real)
        loss = config.mel_weight * mel + config.magnitude_weight * magnitude + config.commitment_weight * commitment
        parts |= {"mel": mel, "magnitude": magnitude, "commitment": commitment}
        if self.fixed:
            adversarial, opinions = self.adversarial(made, real)
            loss, parts = loss + adversarial, parts | opinions
        return loss, parts

    def latents(self, waveform: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Quantised latents [B, D, T] (raw ones in the first steps), the commitment loss, figures for the log."""
        with torch.set_grad_enabled(not self.fixed):
            latents, _ = self.codec.encoder(waveform)
        with torch.autocast(latents.device.type, enabled=False):  # a code is the nearest one in float32 only
            return self.quantised(latents.float())

    def quantised(self, latents: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """``latents`` [B, D, T] of the encoder as ``latents`` gives them; the codebook follows them here."""
        step, zero = self.run.step, latents.new_zeros(())
        if step < self.config.quantise_from:
            return latents, 1e-2 * latents.square().mean(), {}
        if not (self.averages.ready or self.fixed):
            self.start_codebook()
        flat = latents.mT.reshape(-1, latents.shape[1])  # [B T, D]
        codes = nearest(flat, self.book).detach()
        quantised = F.embedding(codes, self.book.detach()).view_as(latents.mT).mT
        if self.fixed:
            return quantised, zero, {}
        commitment = F.mse_loss(latents, quantised)
        everyones = whole_rows(latents.detach()).mT.flatten(0, 1)
        reborn = self.averages.follow(self.book.data, everyones, nearest(everyones, self.book))
        figures = {"reborn": zero + reborn, "perplexity": perplexity(self.averages.counts)}
        return latents + (quantised - latents).detach(), commitment, figures

    @torch.no_grad()
    def start_codebook(self) -> None:
        """Cluster the latents of the first batches."""
        batches, found = self.batches(0), []
        for _ in range(self.config.cluster_batches):
            latents, _ = self.codec.encoder(next(batches).waveform)
            found.append(whole_rows(latents).mT.reshape(-1, latents.shape[1]))
        self.averages.start(self.book.data, torch.cat(found))

    def synthesise(self, latents: Tensor) -> Tensor:
        """The judged segment's waveform [B, S]."""
        cut, hop = self.config.margin_codes - EDGE, self.config.model.hop_length
        frames = self.codec.generator.frames(latents)[..., cut : latents.shape[-1] - cut]
        waveform: Tensor = self.codec.generator.upsample(frames, None)
        return waveform[:, EDGE * hop : waveform.shape[1] - EDGE * hop]

    def judged(self, waveform: Tensor) -> Tensor:
        """The part of a batch's waveform that losses look at."""
        margin = self.config.margin_codes * self.config.model.hop_length
        return waveform[:, margin : waveform.shape[1] - margin]

    def adversarial(self, made: Tensor, real: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Step the judges, then ask what they think of ``made``."""
        steps, optim = self.run.step - self.config.freeze_at, self.config.optim
        rate = learning_rate(self.run.step, optim) / optim.lr
        return self.adversary.opinions(made, real, steps=steps, rate=rate)

    @torch.no_grad()
    def evaluate(self, recordings: list[Tensor]) -> dict[str, float]:
        """Distances of whole held-out recordings [1, S] through the codes and back, and how the codes are used."""
        hop = self.config.model.hop_length
        mels, magnitudes, used = [], [], list[Tensor]()
        for real in recordings:
            latents, _ = self.codec.encoder(real)
            if self.averages.ready or self.fixed:
                codes = self.codec.quantizer.quantise(latents)
                latents = self.codec.quantizer.embed(codes)
                used.append(codes.flatten())
            made = self.codec.generator(latents, None)
            mel, magnitude = self.spectral(made, real[:, : made.shape[1] // hop * hop])
            mels.append(float(mel))
            magnitudes.append(float(magnitude))
        figures = {"mel": float(np.mean(mels)), "magnitude": float(np.mean(magnitudes))}
        if used:
            counts = torch.bincount(torch.cat(used), minlength=self.config.model.codes).float()
            figures |= {"perplexity": float(perplexity(counts)), "codes_used": float((counts > 0).sum())}
        return figures

    def save(self) -> None:
        """Write the codec with plain weights, as it stands."""
        plain = Codec(self.config.model)
        add_weight_norm(self.learning(plain))
        plain.load_state_dict(self.codec.state_dict())
        fold_weight_norm(plain)
        save_stage(self.config.output, {"codec": plain}, to_mapping(self.config))


def perplexity(counts: Tensor) -> Tensor:
    """Effective number of codes, from how often each was chosen [N]."""
    share = counts / counts.sum()
    return torch.exp(torch.special.entr(share).sum())


@torch.no_grad()
def write_codes(codec: Codec, manifest: Path, path: Path, delays_s: Sequence[float] = (0.0,)) -> None:
    """Write the codes of every recording of ``manifest``, one {"id", "delay_s", "codes"} a line; whole or not at all.

    Where a code begins within a sound is chance: 3 ms later, and a third of mini's codes are others. With more than
    one delay a decoder that learns from the codes hears each recording so.
    """
    items, device = read_manifest(manifest), next(codec.parameters()).device
    aside = path.with_suffix(".partial")
    with aside.open("w") as file:
        for item, waveform in zip(items, read_recordings(items, codec.config.sample_rate), strict=True):
            for delay_s in delays_s:
                late = np.pad(waveform, (round(delay_s * codec.config.sample_rate), 0))
                codes, _ = codec.encode(torch.from_numpy(late)[None].to(device))
                file.write(json.dumps({"id": item.id, "delay_s": delay_s, "codes": codes[0].tolist()}) + "\n")
    os.replace(aside, path)


def unpacked(folder: Path) -> Codec | None:
    """The codec that ``icebreaker unpack`` has put into ``folder``, or nothing."""
    if not (folder / "config.json").is_file() or UNPACKED not in (settings := stage_config(folder)):
        return None
    codec = Codec(from_mapping(CodecConfig, settings["model"], f"{folder / 'config.json'}: model"))
    load_into(codec, folder, "codec")
    return codec


def run(config: CodecTrainingConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leave ``codes.jsonl``, ``model.safetensors`` (``codec.*``) and ``config.json`` in ``config.output``.

    Where that holds a codec from a bundle it stays as it is, and only codes are written: voices learn from them. With
    ``start_from`` no codes are written: they are the earlier run's.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    if (codec := unpacked(config.output)) is not None:
        with main_first():
            if not (config.output / "codes.jsonl").exists():
                logger.info("%s holds the codec of a bundle: no training, its codes are written", config.output)
                write_codes(codec.to(device_of(config)), config.data, config.output / "codes.jsonl", config.delays_s)
        return
    stage = CodecStage(config)
    items = read_manifest(config.data, "valid")[: config.evaluate_recordings]
    if not items:
        raise DataError(f"{config.data}: no recording of split 'valid'; synthesise more answers")
    held_out = [torch.from_numpy(each)[None] for each in read_recordings(items, config.model.sample_rate)]
    hop = config.model.hop_length
    held_out = [each[:, : each.shape[1] // hop * hop].to(stage.device) for each in held_out]

    def freeze() -> None:
        codes = config.output / "codes.jsonl"
        with main_first():
            if not codes.exists():
                stage.save()
                write_codes(stage.codec, config.data, codes, config.delays_s)

    if config.start_from is None:
        stage.on_freeze = freeze
    train(
        stage.run, stage.batches, stage.loss, config.output,
        evaluate=lambda: stage.evaluate(held_out), evaluate_every=config.evaluate_every, progress=progress,
    )  # fmt: skip
    stage.on_freeze()
    stage.save()

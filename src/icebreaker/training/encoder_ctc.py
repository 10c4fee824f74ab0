"""Input stage 1: the speech encoder learns to spell, by CTC over characters (arXiv:2411.00774, speech input).

The encoder sees random chunk sizes and left contexts, biased to the deployed ones, so that one set of weights streams
at low latency and also works on whole recordings. Characters instead of the paper's word pieces: our data is small.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from icebreaker.config import to_mapping
from icebreaker.data.features import channel_statistics
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.training.ctc import CHARACTERS, ctc_loss, greedy_text, spelled, spelling
from icebreaker.training.devices import device_of, moved
from icebreaker.training.error_rate import error_rates
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.spec_augment import SpecAugmentConfig, spec_augment
from icebreaker.training.speech_batches import SpeechBatch, SpeechConfig, SpeechSource
from icebreaker.training.stage_files import load_into, save_stage

__all__ = ["ChunkConfig", "EncoderCTCConfig", "draw_chunks", "run"]


@dataclass(frozen=True, kw_only=True)
class ChunkConfig:
    """Dynamic chunk training: how often the deployed chunk, a random one, and the full context are used."""

    deployed: float = 0.5
    random: float = 0.3  # the rest is full context
    max_chunk: int = 25  # encoder frames
    chunk_size: int = 4
    left_chunks: int = 16


@dataclass(frozen=True, kw_only=True)
class EncoderCTCConfig:
    """Everything of one run of this stage."""

    stage: str = "encoder_ctc"
    output: str
    encoder: EncoderConfig
    start_from: str | None = None  # folder of an earlier run of this stage or of alignment: its encoder and CTC head
    data: SpeechConfig
    optim: OptimConfig
    chunks: ChunkConfig = field(default_factory=ChunkConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    statistics_rows: int = 2000  # stored recordings that the feature mean and deviation are estimated from
    evaluate_every: int = 200
    evaluate_recordings: int = 160


def draw_chunks(config: ChunkConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Chunk size and left chunks for one batch; a chunk size of 0 means full context, -1 left chunks all of them."""
    kind = rng.random()
    if kind < config.deployed:
        return config.chunk_size, config.left_chunks
    if kind < config.deployed + config.random:
        return int(rng.integers(1, config.max_chunk + 1)), int(rng.integers(1, config.left_chunks + 1))
    return 0, -1


def run(config: EncoderCTCConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train and leave ``model.safetensors`` (``encoder.*``, ``ctc.*``) and ``config.json`` in ``config.output``."""
    device, source = device_of(config), SpeechSource(config.data)
    torch.manual_seed(config.optim.seed)
    encoder = Encoder(config.encoder)
    encoder.subsampling.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
    match_positions(encoder)
    ctc = nn.Linear(config.encoder.width, 1 + len(CHARACTERS))
    if config.start_from:
        load_into(encoder, Path(config.start_from), "encoder")
        load_into(ctc, Path(config.start_from), "ctc")
    else:
        mean, istd = estimate_cmvn(source, config.statistics_rows)
        encoder.mean.copy_(mean)
        encoder.istd.copy_(istd)
    training = Run({"encoder": encoder.to(device), "ctc": ctc.to(device)}, config.optim)

    def loss_fn(batch: SpeechBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        encoder.train()
        batch = moved(batch, device)
        fbank = spec_augment(batch.fbank, batch.lengths, encoder.mean, config.spec_augment, batch.rng(1))
        chunk_size, left_chunks = draw_chunks(config.chunks, batch.rng(2))
        frames, lengths = encoder.encode(fbank, batch.lengths, chunk_size=chunk_size, left_chunks=left_chunks)
        loss = ctc_loss(ctc(frames), lengths, [spelling(item.text) for item in batch.items])
        return loss, {}

    def evaluate() -> Mapping[str, float]:
        deployed, full = (config.chunks.chunk_size, config.chunks.left_chunks), (0, -1)
        return {
            f"{name}_{rate}": value
            for recordings, batches in validation.items()
            for name, chunks in ((recordings, deployed), (f"{recordings}_full", full))
            for rate, value in spelling_errors(encoder, ctc, batches, *chunks).items()
        }

    validation = {"voices": source.evaluation(("valid",), config.evaluate_recordings)}
    if source.human is not None:
        half = config.evaluate_recordings // 2
        validation["human"] = source.evaluation(("valid", "test"), half, store=source.human)
    if source.natural is not None:
        validation["natural"] = source.evaluation(("valid",), config.evaluate_recordings, store=source.natural)
    folder = Path(config.output)
    train(
        training, source.batches, loss_fn, folder,
        evaluate=evaluate, evaluate_every=config.evaluate_every, progress=progress,
    )  # fmt: skip
    encoder.eval()
    save_stage(folder, {"encoder": encoder, "ctc": ctc}, {**to_mapping(config), "evaluation": dict(evaluate())})


@torch.no_grad()
def match_positions(encoder: Encoder) -> None:
    """Let features begin no larger than the position rows added to them, lest places go unnoticed (ours)."""
    if encoder.config.position_encoding == "abs-enc" and encoder.embed is not None:
        encoder.embed.norm.weight.mul_(2 * encoder.config.width**-0.5)


def estimate_cmvn(source: SpeechSource, rows: int) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation [80] of the features over evenly spread training recordings, speech parts only."""
    chosen = np.linspace(0, len(source.pool) - 1, min(rows, len(source.pool))).round().astype(int)
    picked = [source.pool[i] for i in chosen]
    mean, istd = channel_statistics(
        source.stores[store].fbank(row, row.speech_start, row.speech_end) for store, row in picked
    )
    return torch.from_numpy(mean).float(), torch.from_numpy(istd).float()


@torch.no_grad()
def spelling_errors(
    encoder: Encoder, ctc: nn.Module, batches: list[SpeechBatch], chunk_size: int, left_chunks: int
) -> dict[str, float]:
    """Greedy word and character error rates of an encoder that hears in such chunks; 0 and -1: all at once."""
    encoder.eval()
    references, hypotheses = [], []
    for batch in (moved(each, encoder.mean.device) for each in batches):
        frames, lengths = encoder.encode(batch.fbank, batch.lengths, chunk_size=chunk_size, left_chunks=left_chunks)
        hypotheses += greedy_text(ctc(frames), lengths)
        references += [spelled(item.text) for item in batch.items]
    return error_rates(references, hypotheses)

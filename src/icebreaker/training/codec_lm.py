"""Output stage 2: pre-NN and autoregressive decoder learn to speak text (arXiv:2411.00774, speech output).

Input is the answer's text through the frozen LLM's embedding, target are the codec's codes and eos.

Departures: pieces of answers besides whole ones (see ``codec_lm_batches``), and with ``alignment_weight`` some layers
are shown which word is being spoken: hours of speech teach that by themselves, minutes do not. With ``code_noise`` some
of the codes that are fed are random, so that the decoder learns to go on from its own mistakes and to trust the text.
With ``neighbours`` codes that sound alike may stand for each other (see ``code_neighbours``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from icebreaker.config import to_mapping
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.codec_lm_loss import accuracy, alignment_loss, cross_entropy, targets
from icebreaker.models.llm import LLM
from icebreaker.training.align_words import align_once
from icebreaker.training.code_neighbours import (
    CodeNeighbours,
    NeighbourConfig,
    load_neighbours,
    start_from_codebook,
)
from icebreaker.training.codec_lm_batches import AnswerConfig, AnswerSource, CodecLMBatch
from icebreaker.training.devices import device_of
from icebreaker.training.frozen import stays_frozen
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.processes import main_first
from icebreaker.training.stage_files import load_into, save_stage, stage_config

__all__ = ["CodecLMTrainingConfig", "initialise", "loss_of", "run", "validate"]


@dataclass(frozen=True, kw_only=True)
class CodecLMTrainingConfig:
    """Everything of one run of this stage."""

    stage: str = "codec_lm"
    output: Path
    llm: Path  # Hugging Face folder
    model: CodecLMConfig
    data: AnswerConfig
    optim: OptimConfig
    start_from: Path | None = None  # folder of an earlier run of this stage
    alignment_weight: float = 0.3
    alignment_layers: tuple[int, ...] = (1,)  # of the autoregressive stack
    code_noise: float = 0.0  # share of fed codes that are random
    neighbours: NeighbourConfig | None = None
    evaluate_every: int = 200
    evaluate_answers: int = 64
    threads: int = 0  # 0: as torch chooses

    def __post_init__(self) -> None:
        if self.model.prefix:
            raise ValueError("model.prefix must be false: prefix layers are trained by stage codec_lm_prefix")
        if wrong := [layer for layer in self.alignment_layers if not 0 <= layer < self.model.blocks]:
            raise ValueError(f"alignment_layers: {wrong[0]} is not one of {self.model.blocks} layers")


def initialise(model: CodecLM, embeddings: Tensor) -> None:
    """Random weights that keep signals near 1, also behind the small ``embeddings`` [V, D] of the LLM."""
    depth = 2 * model.config.blocks
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = module.in_features**-0.5
            if name.endswith((".out", ".down")):
                std /= depth**0.5
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(model.head.weight, std=0.02)
    if isinstance(model.text_input, nn.Linear):
        size = float(embeddings.float().square().mean().sqrt())
        nn.init.normal_(model.text_input.weight, std=model.text_input.in_features**-0.5 / max(size, 1e-6))


def loss_of(
    model: CodecLM,
    batch: CodecLMBatch,
    weight: float = 0.0,
    layers: Sequence[int] = (),
    noise: float = 0.0,
    neighbours: CodeNeighbours | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy per token plus the weighted alignment loss, and named parts.

    ``noise`` is the share of fed codes that are random, ``neighbours`` adds its own; the targets stay as they are.
    """
    fed = batch.codes if neighbours is None else neighbours.noisy(batch.codes)
    if noise:
        random = torch.randint_like(fed, model.config.codes)
        fed = torch.where(torch.rand(fed.shape, device=fed.device) < noise, random, fed)
    taught = model(batch.text, batch.text_lengths, fed, batch.code_lengths, batch.prefix, batch.prefix_lengths)
    expected = targets(batch.codes, batch.code_lengths, model.config)
    parts = {"accuracy": accuracy(taught.logits, expected, model.config)}
    if neighbours is None:
        parts["codes"] = cross_entropy(taught.logits, expected, model.config)
    else:
        parts["codes"] = neighbours.cross_entropy(taught.logits, expected, model.config.pad)
        parts["near"] = neighbours.nearness(taught.logits, expected)
    loss = parts["codes"]
    if layers:
        shown = [alignment_loss(taught, batch.first, batch.last, layer, model.config.split) for layer in layers]
        parts["alignment"] = torch.stack(shown).mean()
        loss = loss + weight * parts["alignment"]
    return loss, parts


@torch.no_grad()
def validate(
    model: CodecLM, source: AnswerSource, answers: int, neighbours: CodeNeighbours | None = None
) -> dict[str, float]:
    """Cross entropy and accuracy per token over the first ``answers`` whole answers, fed as they are.

    With ``neighbours`` also the share of codes whose best guess is near the right one.
    """
    training = model.training
    model.eval()
    totals, tokens = dict[str, float](), 0
    for batch in source.whole(answers):
        taught = model(
            batch.text, batch.text_lengths, batch.codes, batch.code_lengths, batch.prefix, batch.prefix_lengths
        )
        expected = targets(batch.codes, batch.code_lengths, model.config)
        figures = {
            "valid_loss": cross_entropy(taught.logits, expected, model.config),
            "valid_accuracy": accuracy(taught.logits, expected, model.config),
        }
        if neighbours is not None:
            figures["valid_near"] = neighbours.nearness(taught.logits, expected)
        count = int((batch.code_lengths + 1).sum())
        for name, value in figures.items():
            totals[name] = totals.get(name, 0.0) + float(value) * count
        tokens += count
    model.train(training)
    return {name: total / tokens for name, total in totals.items()}


def go_on_from(model: CodecLM, folder: Path) -> None:
    """Take over the decoder of an earlier run, or of stage codec_lm_prefix less its prefix layers."""
    prefix = bool(stage_config(folder)["model"].get("prefix"))
    earlier = CodecLM(replace(model.config, prefix=prefix))
    load_into(earlier, folder, "codec_lm")
    weights = earlier.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})


def run(config: CodecLMTrainingConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leave ``model.safetensors`` (``codec_lm.*``) and ``config.json`` in ``config.output``."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = device_of(config)
    if config.data.word_times:
        with main_first():
            align_once(config.data.answers, config.data.word_times)
    llm = LLM.load(config.llm)  # on the CPU: only its tokens' embeddings are looked at
    torch.manual_seed(config.optim.seed)
    model = CodecLM(config.model)
    initialise(model, llm.embed(torch.arange(llm.vocab_size)))
    neighbours = load_neighbours(config.neighbours) if config.neighbours else None
    if neighbours is not None:
        start_from_codebook(model, neighbours)
        neighbours.to(device)
    if config.start_from is not None:
        go_on_from(model, config.start_from)
    source, held_out = (AnswerSource(config.data, split, llm, device=device) for split in ("train", "valid"))

    def loss_fn(batch: CodecLMBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return loss_of(model, batch, config.alignment_weight, config.alignment_layers, config.code_noise, neighbours)

    with stays_frozen(llm, f"the LLM {config.llm}") as sha256:
        train(
            Run({"codec_lm": model.to(device).train()}, config.optim),
            lambda first: source.batches(first, config.optim.seed),
            loss_fn, config.output,
            evaluate=lambda: validate(model, held_out, config.evaluate_answers, neighbours),
            evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
    frozen = {"llm_sha256": llm.sha256, "llm_weights_sha256": sha256}
    save_stage(config.output, {"codec_lm": model}, {**to_mapping(config), **frozen})

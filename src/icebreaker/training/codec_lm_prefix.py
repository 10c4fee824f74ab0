"""Output stage 3: prefix layers learn to lead the decoder by LLM hidden states (arXiv:2411.00774, speech output).

Everything else is frozen: the LLM, the pre-NN, the autoregressive decoder, its embedding and head (the official code
left the pre-NN unfrozen). Hidden states come from the LLM saying the answer in a conversation, as it will in a
dialogue. The prefix layers start as a copy of the autoregressive ones, whose keys and values they stand in for.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from icebreaker.config import from_mapping, to_mapping
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.llm import LLM
from icebreaker.training.answer_states import AnswerStates, as_heard, read_contexts
from icebreaker.training.code_neighbours import CodeNeighbours, NeighbourConfig, load_neighbours
from icebreaker.training.codec_lm import loss_of, validate
from icebreaker.training.codec_lm_batches import AnswerConfig, AnswerSource, CodecLMBatch
from icebreaker.training.devices import device_of
from icebreaker.training.frozen import freeze, stays_frozen
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.stage_files import load_into, save_stage, stage_config

__all__ = ["CodecLMPrefixConfig", "run", "with_prefix_layers"]

TRAINED = ("prefix_input", "prefix_layers")


@dataclass(frozen=True, kw_only=True)
class CodecLMPrefixConfig:
    """Everything of one run of this stage."""

    stage: str = "codec_lm_prefix"
    output: Path
    llm: Path  # Hugging Face folder
    codec_lm: Path  # folder of stage codec_lm
    conversations: Path  # folder with train.jsonl and valid.jsonl
    data: AnswerConfig
    optim: OptimConfig
    contexts_per_answer: int = 2
    heard_contexts: bool = False  # each of them also as a second pass hears it
    code_noise: float = 0.0  # share of fed codes that are random, as in stage codec_lm
    neighbours: NeighbourConfig | None = None  # likewise
    evaluate_every: int = 200
    evaluate_answers: int = 64
    threads: int = 0  # 0: as torch chooses


def with_prefix_layers(plain: CodecLM) -> CodecLM:
    """The same decoder with prefix layers that are copies of the autoregressive ones."""
    model = CodecLM(replace(plain.config, prefix=True))
    weights = plain.state_dict()
    for theirs, ours in (("layers.", "prefix_layers."), ("text_input.", "prefix_input.")):
        copies = {ours + key.removeprefix(theirs): value for key, value in weights.items() if key.startswith(theirs)}
        weights = {**weights, **copies}
    model.load_state_dict(weights)
    return model


def scale_input(model: CodecLM, source: AnswerSource) -> None:
    """Bring hidden states, some 100 times larger than embeddings, to the size that the layers were trained on."""
    if not isinstance(model.prefix_input, nn.Linear):
        return
    batch = next(source.whole(source.config.rows))
    assert batch.prefix is not None
    with torch.no_grad():
        ratio = _size(batch.text) / _size(batch.prefix)
        model.prefix_input.weight.mul_(ratio)


def _size(rows: Tensor) -> float:
    return float(rows[rows.abs().sum(dim=-1) > 0].square().mean().sqrt())


def run(config: CodecLMPrefixConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leave ``model.safetensors`` (all of ``codec_lm.*``) and ``config.json`` in ``config.output``."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = device_of(config)
    llm = LLM.load(config.llm, device)
    settings = stage_config(config.codec_lm)["model"]
    plain = CodecLM(from_mapping(CodecLMConfig, settings, f"{config.codec_lm / 'config.json'}: model"))
    load_into(plain, config.codec_lm, "codec_lm")
    torch.manual_seed(config.optim.seed)
    model = with_prefix_layers(plain).to(device)
    source, held_out = (_source(config, split, llm) for split in ("train", "valid"))
    scale_input(model, source)
    neighbours = load_neighbours(config.neighbours).to(device) if config.neighbours else None
    parts = dict(model.named_children())
    trained = nn.ModuleDict({name: parts[name] for name in TRAINED if list(parts[name].parameters())})

    def loss_fn(batch: CodecLMBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        return loss_of(model, batch, noise=config.code_noise, neighbours=neighbours)

    with ExitStack() as frozen:
        sha256 = frozen.enter_context(stays_frozen(llm, f"the LLM {config.llm}"))
        model.train()
        for name in parts.keys() - trained.keys():
            frozen.enter_context(stays_frozen(freeze(parts[name]), f"{name} of the speech decoder"))
        train(
            Run({"prefix": trained}, config.optim),
            lambda first: source.batches(first, config.optim.seed),
            loss_fn, config.output,
            evaluate=lambda: _validate(model, held_out, config.evaluate_answers, neighbours),
            evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
    settings = {"model": to_mapping(model.config), "llm_sha256": llm.sha256, "llm_weights_sha256": sha256}
    save_stage(config.output, {"codec_lm": model}, {**to_mapping(config), **settings})


def _validate(
    model: CodecLM, source: AnswerSource, answers: int, neighbours: CodeNeighbours | None
) -> dict[str, float]:
    modes = {name: part.training for name, part in model.named_children()}
    figures = validate(model, source, answers, neighbours)
    for name, part in model.named_children():
        part.train(modes[name])  # frozen parts stay in eval mode
    return figures


def _source(config: CodecLMPrefixConfig, split: str, llm: LLM) -> AnswerSource:
    plain = AnswerSource(config.data, split, llm, device=llm.embedding.weight.device)
    answers = {answer.text for answer in plain.answers}
    contexts = read_contexts(config.conversations / f"{split}.jsonl", answers, config.contexts_per_answer)
    if config.heard_contexts:
        contexts = {answer: [*some, *map(as_heard, some)] for answer, some in contexts.items()}
    plain.states = AnswerStates(llm, contexts)
    return plain

"""LLaMA-Omni, stage 1: adaptor and LLM learn to answer spoken questions (arXiv:2409.06666v2, section 3.5).

The encoder is frozen; the loss is the cross entropy of the answer and its end after the chat layout with the speech in
it. Options: the LLM learns whole, by LoRA, or not at all. Ours, for a small frozen LLM that reads only its own tokens:
``adaptor.vocabulary`` ends the adaptor in a lookup, ``token_ctc_weight`` teaches it the question's tokens by CTC, and
``cuts`` are varied pieces of the questions, heard once by an encoder of ours: few recordings are learnt by heart.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from icebreaker.config import to_mapping
from icebreaker.data.manifest import Item
from icebreaker.models.chat import DEFAULT_SYSTEM, OMNI_SYSTEM, ChatPrompt
from icebreaker.models.llm import LLM
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.alignment import slow_down
from icebreaker.training.devices import device_of
from icebreaker.training.ears import token_ctc_loss
from icebreaker.training.error_rate import answered
from icebreaker.training.frozen import stays_frozen
from icebreaker.training.heard_pool import draw, drawn, listen, padded
from icebreaker.training.hearing import ChunkedEars, HeardFrames, load_ears
from icebreaker.training.instruct_batches import Hearing, QuestionConfig, QuestionSource
from icebreaker.training.llm_layout import continue_greedily, ids_of, score
from icebreaker.training.llm_tuning import TunedLLM, TuningConfig
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.speech_batches import SpeechConfig, SpeechSource
from icebreaker.training.stage_files import load_into, save_stage

__all__ = ["Asker", "SpeechInstructConfig", "prompt_of", "run"]


Asked = tuple[list[Item], HeardFrames]


@dataclass(frozen=True, kw_only=True)
class SpeechInstructConfig:
    """Everything of one run of this stage."""

    stage: str = "speech_instruct"
    output: Path
    llm: Path  # Hugging Face folder
    encoder: Path | None = None  # folder of a stage that left an encoder of ours
    whisper: Path | None = None  # or an openai-whisper file, or a Hugging Face Whisper folder
    adaptor: SpeechAdaptorConfig
    questions: QuestionConfig
    optim: OptimConfig
    tuning: TuningConfig = field(default_factory=TuningConfig)
    chat: Literal["tokenizer", "llama-omni"] = "tokenizer"  # the tokenizer's own template, or the official prompt
    system: str | None = None  # default: that of ``chat``
    instruction: str = ""  # text after the speech, part of the user's turn; the official prompt has its own
    start_from: Path | None = None  # folder of an earlier run of this stage: its adaptor
    answer_weight: float = 1.0
    token_ctc_weight: float = 0.0
    leading_space: bool = False  # of the question's tokens: as the LLM was taught to read them
    cuts: SpeechConfig | None = None  # what training hears in place of the recordings of ``questions``
    recordings: int = 40_000  # drawn once of ``cuts``
    evaluate_every: int = 200
    evaluate_questions: int = 96
    max_new_tokens: int = 40

    def __post_init__(self) -> None:
        if (self.encoder is None) == (self.whisper is None):
            raise ValueError("expected either encoder (ours) or whisper")
        if self.cuts is not None and self.encoder is None:
            raise ValueError("cuts are of features that an encoder of ours hears; leave them out with whisper")
        if self.token_ctc_weight and not self.adaptor.vocabulary:
            raise ValueError("token_ctc_weight is for an adaptor that looks tokens up; set adaptor.vocabulary, too")
        if self.answer_weight <= 0 and self.tuning.mode != "frozen":
            raise ValueError("without answer_weight the LLM learns nothing; set tuning.mode to frozen")


class Asker:
    """Adaptor and chat layout: frames to what the LLM reads before it answers."""

    def __init__(self, adaptor: SpeechAdaptor, llm: LLM, prompt: ChatPrompt) -> None:
        self.adaptor, self.llm = adaptor, llm
        self.before = [*prompt.before_ids, *prompt.user_prefix_ids]
        self.after = list(prompt.suffix_ids)
        self.end_id = prompt.end_ids[0] if prompt.end_ids else llm.eos_ids[0]

    def vectors(self, heard: HeardFrames) -> list[Tensor]:
        """The adaptor's vectors [n, D] of every row, before its lookup."""
        stride = self.adaptor.config.stride
        vectors = self.adaptor.vectors(heard.frames)
        return [row[: length // stride] for row, length in zip(vectors, heard.lengths.tolist(), strict=True)]

    def contexts(self, vectors: list[Tensor]) -> list[list[Tensor]]:
        """Each row's pieces [n, D] up to where the answer begins: prompt, speech, instruction and end of turn."""
        lookup = self.adaptor.lookup
        # Embedded anew each time: the embeddings may be learning.
        device = self.llm.embedding.weight.device
        before, after = (self.llm.embed(torch.tensor([ids], device=device))[0] for ids in (self.before, self.after))
        return [[before, row if lookup is None else lookup(row), after] for row in vectors]


def prompt_of(llm: LLM, chat: str, system: str | None, instruction: str) -> ChatPrompt:
    """The chat around the speech, as the dialogue has it."""
    if chat == "llama-omni":
        prompt = ChatPrompt.llama_omni(llm.tokenizer, OMNI_SYSTEM if system is None else system)
    else:
        prompt = ChatPrompt.from_tokenizer(llm.tokenizer, DEFAULT_SYSTEM if system is None else system)
    return prompt.with_instruction(llm.tokenizer, instruction)


def run(config: SpeechInstructConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leaves ``adaptor.*`` and ``config.json`` in ``config.output``, and a tuned LLM in its folder ``llm``."""
    device = device_of(config)
    ears = load_ears(config.encoder, config.whisper).to(device)
    llm = LLM.load(config.llm, device)
    torch.manual_seed(config.optim.seed)
    adaptor = SpeechAdaptor(config.adaptor)
    if config.start_from:
        load_into(adaptor, config.start_from, "adaptor")
    if adaptor.lookup is not None:
        adaptor.lookup.follow(llm.embedding.weight)
    adaptor.to(device)
    tuned = TunedLLM(llm, config.tuning)
    modules = {"adaptor": adaptor, **({"llm": llm.model} if tuned.learns else {})}
    training = Run(modules, config.optim, llm=None if tuned.config.mode == "lora" else llm.model)  # merged when saved
    if tuned.learns:
        slow_down(training, llm.model, config.tuning.lr_scale)
    stage = _Stage(
        config,
        Asker(adaptor, llm, prompt_of(llm, config.chat, config.system, config.instruction)),
        Hearing(ears, keep=config.questions.keep_frames),
    )
    held_out = QuestionSource(config.questions, "valid")
    with ExitStack() as frozen:
        hashes = {"encoder_sha256": frozen.enter_context(stays_frozen(ears.encoder, "the speech encoder"))}
        if not tuned.learns:
            hashes["llm_weights_sha256"] = frozen.enter_context(stays_frozen(llm, "the LLM"))
        train(
            training, stage.batches(), stage.loss, config.output,
            evaluate=lambda: stage.evaluate(held_out), evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
    if tuned.learns:
        tuned.save(config.output / "llm")
        hashes["llm_weights_sha256"] = weights_sha256(llm)
    evaluation = {"evaluation": stage.evaluate(held_out)}
    save_stage(config.output, {"adaptor": adaptor}, {**to_mapping(config), **hashes, **evaluation})


@dataclass(frozen=True)
class _Stage:
    config: SpeechInstructConfig
    asker: Asker
    hearing: Hearing

    def batches(self) -> Callable[[int], Iterator[Asked]]:
        """Training batches from a number on."""
        config, seed = self.config, self.config.optim.seed
        if config.cuts is None:
            source = QuestionSource(config.questions, "train")
            return lambda first: ((batch, self.hearing(batch)) for batch in source.batches(first, seed))
        ears, rows = self.hearing.ears, config.questions.rows
        assert isinstance(ears, ChunkedEars)
        chunks = ears.encoder.config.chunk_size, ears.encoder.config.left_chunks
        pool = listen(ears.encoder, chunks, draw(SpeechSource(config.cuts, with_answer=True), config.recordings))
        return lambda first: (
            ([row.item for row in batch], padded(batch, ears.device)) for batch in drawn(pool, rows, seed, first)
        )

    def loss(self, asked: Asked) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross entropy per token of the answers, and CTC of the questions where it is wanted."""
        config, llm, (batch, heard) = self.config, self.asker.llm, asked
        vectors = self.asker.vectors(heard)
        parts, loss = dict[str, Tensor](), vectors[0].new_zeros(())
        if config.answer_weight:
            answers = [ids_of(llm, item.answer or "") for item in batch]
            parts["answer"] = score(llm, self.asker.contexts(vectors), answers, self.asker.end_id).losses.mean()
            loss = loss + config.answer_weight * parts["answer"]
        if config.token_ctc_weight and self.asker.adaptor.lookup is not None:
            lead = " " if config.leading_space else ""
            said = [ids_of(llm, lead + item.text) for item in batch]
            parts["token_ctc"] = token_ctc_loss(self.asker.adaptor.lookup, vectors, said)
            loss = loss + config.token_ctc_weight * parts["token_ctc"]
        return loss, parts

    @torch.no_grad()
    def evaluate(self, source: QuestionSource) -> dict[str, float]:
        """Cross entropy of held-out answers, and how many the LLM gives by itself, greedily."""
        llm, losses, right, asked = self.asker.llm, list[Tensor](), 0, 0
        for batch in source.fixed(self.config.evaluate_questions):
            contexts = self.asker.contexts(self.asker.vectors(self.hearing(batch)))
            answers = [ids_of(llm, item.answer or "") for item in batch]
            losses.append(score(llm, contexts, answers, self.asker.end_id).losses)
            for item, ids in zip(batch, self.say(contexts), strict=True):
                right += answered(item.text, item.answer or "", llm.tokenizer.decode(ids, skip_special_tokens=True))
                asked += 1
        return {"valid_answer": float(torch.cat(losses).mean()), "answered": right / asked}

    def say(self, contexts: list[list[Tensor]]) -> list[list[int]]:
        """The LLM's own answers."""
        return continue_greedily(self.asker.llm, contexts, self.asker.end_id, self.config.max_new_tokens)

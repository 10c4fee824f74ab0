"""Input stage 2: encoder and adapter learn, through the frozen LLM, to stand for text (arXiv:2411.00774, speech input).

Two layouts share every batch. P are trained task embeddings, S is speech, | is where the scored ids begin:

    transcript    P[transcribe en audio] S P[/audio hyps] | transcript <end>     the paper's; its details ours
    answer        system, user prefix, S, suffix          | answer <end>            ours: the chat layout of stage 3

Departures for a small LLM, each off at weight 0: ``answer_share`` (an LLM of few parameters never learnt to copy, but
it knows how to answer), ``ctc_weight`` (keeps the encoder spelling), ``token_ctc_weight`` (CTC over the LLM's own
tokens, of an adapter with a lookup), ``start_from`` an adapter that ``adapter_ctc`` trained.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from icebreaker.config import to_mapping
from icebreaker.errors import ConfigError
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.llm import LLM
from icebreaker.models.prompts import Prompts
from icebreaker.training.ctc import CHARACTERS, ctc_loss, spelling
from icebreaker.training.devices import device_of, moved
from icebreaker.training.doubling import doubled
from icebreaker.training.ears import Chat, Ears, Heard, heard_ids, load_ears, token_ctc_loss
from icebreaker.training.encoder_ctc import ChunkConfig, draw_chunks
from icebreaker.training.error_rate import answered, error_rates, plain_words
from icebreaker.training.frozen import stays_frozen
from icebreaker.training.hearing import load_encoder
from icebreaker.training.llm_layout import continue_greedily, ids_of, score
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.processes import world
from icebreaker.training.spec_augment import SpecAugmentConfig, spec_augment
from icebreaker.training.speech_batches import SpeechBatch, SpeechConfig, SpeechSource
from icebreaker.training.stage_files import has_part, load_into, save_stage

__all__ = ["AlignmentConfig", "run", "slow_down"]

BEFORE_SPEECH = (1, 4, 5)  # transcribe, en, audio; the order of the official task embeddings
AFTER_SPEECH = (6, 7)  # /audio, hyps


@dataclass(frozen=True, kw_only=True)
class AlignmentConfig:
    """Everything of one run of this stage."""

    stage: str = "alignment"
    output: str
    llm: str  # Hugging Face folder
    encoder: str  # folder of stage encoder_ctc, or of an earlier run of this stage
    start_from: str | None = None  # folder of stage adapter_ctc, or of an earlier run of this stage: its adapter
    adapter: AdapterConfig
    data: SpeechConfig
    optim: OptimConfig
    chunks: ChunkConfig = field(default_factory=ChunkConfig)
    spec_augment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    conversations: str | None = None  # folder of text conversations: the questions as they are written
    tasks: int = 20
    prompts: int = 8
    encoder_lr_scale: float = 0.2
    answer_share: float = 0.5  # of the rows that have an answer
    answered_only: bool = False  # only spelling is learnt from recordings without an answer: for a narrow LLM
    transcript_weight: float = 1.0
    ctc_weight: float = 0.3
    head_first: int = 0  # batches in which the character head learns alone; for one that begins from nothing
    token_ctc_weight: float = 0.0
    leading_space: bool = False  # of the tokens of token_ctc_weight; as in stage adapter_ctc
    learnt_share: float = 1.0  # of the ears in the end; the rest is what they began as (arXiv:2109.01903)
    blend_with: str | None = None  # or what they were in the folder of an earlier run, several rounds ago
    doubled_layers: tuple[int, ...] = ()  # of the encoder; a copy that begins as an identity goes on top of each
    ctc_layer: int = 0  # encoder layer, from 1, whose frames spell for ``ctc_weight``; 0: the encoder's own
    evaluate_every: int = 200
    evaluate_recordings: int = 96
    max_new_tokens: int = 40

    def __post_init__(self) -> None:
        if self.ctc_layer < 0:
            raise ValueError(f"ctc_layer: expected a layer from 1, or 0 for the last frames, got {self.ctc_layer}")
        if not 0 < self.learnt_share <= 1:
            raise ValueError(f"learnt_share: expected a share above 0, at most 1, got {self.learnt_share}")
        if self.blend_with is not None and self.learnt_share == 1:
            raise ValueError("blend_with is for a learnt_share below 1: nothing is left to be of the earlier ears")
        if self.token_ctc_weight and not self.adapter.vocabulary:
            raise ValueError("token_ctc_weight is for an adapter that looks tokens up; set adapter.vocabulary, too")


@torch.no_grad()
def match_scale(adapter: Adapter, prompts: Prompts, table: Tensor) -> None:
    """Let what will stand beside the LLM's input embeddings ``table`` [V, D] begin at their scale."""
    spread = float(table.std())
    for vectors in (prompts.prompt_embeddings.weight, prompts.task_embeddings.weight):
        vectors.normal_(0.0, spread)
    frames = torch.randn(8, 32, adapter.config.encoder_dim, generator=torch.Generator().manual_seed(0))
    said, _ = adapter.project_frames(frames, adapter.initial_state(len(frames)))
    ratio = spread / float(said.std())
    adapter.project.weight.mul_(ratio)
    adapter.project.bias.mul_(ratio)


def slow_down(run: Run, module: nn.Module, factor: float) -> None:
    """Let ``module`` train at ``factor`` times the scheduled learning rate."""
    slow = {id(p) for p in module.parameters()}
    groups = []
    for group in run.optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != "params"}
        for scale, chosen in ((1.0, [p for p in group["params"] if id(p) not in slow]),
                              (factor, [p for p in group["params"] if id(p) in slow])):  # fmt: skip
            if chosen:
                groups.append({**settings, "params": chosen, "lr_scale": scale})
    run.optimizer = type(run.optimizer)(groups)  # its settings are in the groups

    def scale_rates(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]  # the loop sets every group to the schedule before each step

    run.optimizer.register_step_pre_hook(scale_rates)


@torch.no_grad()
def blend(module: nn.Module, began: nn.Module, share: float) -> None:
    """Move each parameter of ``module`` to ``share`` of the way from where it ``began`` to where it is."""
    for weight, before in zip(module.parameters(), began.parameters(), strict=True):
        weight.copy_(torch.lerp(before.to(weight.device), weight, share))


def run(config: AlignmentConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leaves ``encoder.*``, ``adapter.*``, ``prompts.*`` and ``config.json`` in ``config.output``.

    ``ctc.*`` is there, too, unless nobody ever taught it.
    """
    device = device_of(config)
    llm = LLM.load(Path(config.llm), device)
    torch.manual_seed(config.optim.seed)
    ears = Ears(doubled(load_encoder(Path(config.encoder)), config.doubled_layers), Adapter(config.adapter))
    encoder_config = ears.encoder.config
    ears.encoder.subsampling.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs
    ctc = nn.Linear(encoder_config.width, 1 + len(CHARACTERS))
    can_spell = has_part(Path(config.encoder), "ctc")  # a bundle keeps no character head: it is learnt anew
    if can_spell:
        load_into(ctc, Path(config.encoder), "ctc")
    prompts = Prompts(llm.width, config.prompts, config.tasks)
    match_scale(ears.adapter, prompts, llm.embedding.weight)
    if config.start_from:
        load_into(ears.adapter, Path(config.start_from), "adapter")
    if ears.adapter.lookup is not None:
        ears.adapter.lookup.follow(llm.embedding.weight)
    prompts.prompt_embeddings.requires_grad_(False)  # they are trained by stage 3
    began = None
    if config.learnt_share < 1:
        began = load_ears(Path(config.blend_with)) if config.blend_with else copy.deepcopy(ears)
    for module in (ears, prompts, ctc):
        module.to(device)
    training = Run({"ears": ears, "prompts": prompts, "ctc": ctc}, config.optim, llm=llm.model)
    slow_down(training, ears.encoder, config.encoder_lr_scale)
    source, folder = SpeechSource(config.data), Path(config.output)
    stage = _Stage(config, llm, ears, prompts, ctc, Chat(llm, config.conversations), _Tap(ears, config.ctc_layer))
    validation = {"": source.evaluation(("valid",), config.evaluate_recordings)}
    if source.natural is not None:
        validation["natural_"] = source.evaluation(("valid",), config.evaluate_recordings, store=source.natural)

    def evaluate() -> Mapping[str, float]:
        return {
            f"{name}{rate}": value
            for name, batches in validation.items()
            for rate, value in stage.evaluate(batches).items()
        }

    with stays_frozen(llm, "the LLM") as before:
        train(
            training, source.batches, stage.loss, folder,
            evaluate=evaluate, evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
    ears.eval()
    if began is not None:
        blend(ears, began, config.learnt_share)
    parts: dict[str, nn.Module] = {"encoder": ears.encoder, "adapter": ears.adapter, "prompts": prompts}
    if can_spell or config.ctc_weight:  # a head that nobody has taught would disturb the ears of the next round
        parts["ctc"] = ctc
    save_stage(
        folder,
        parts,
        {
            **to_mapping(config),
            "encoder_config": to_mapping(encoder_config),
            "llm_sha256": {"before": before, "after": before},  # stays_frozen has compared them
            "evaluation": dict(evaluate()),
        },
    )


class _Tap:
    """The frames that spell: those of one layer of the encoder, or its own."""

    def __init__(self, ears: Ears, layer: int) -> None:
        self._passed: Tensor | None = None
        if layer > len(ears.encoder.layers):
            raise ConfigError(f"ctc_layer: expected one of {len(ears.encoder.layers)} layers, got {layer}")
        if layer:
            ears.encoder.layers[layer - 1].register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: object, outputs: tuple[Tensor, object]) -> None:
        self._passed = outputs[0]

    def frames(self, heard: Heard) -> Tensor:
        """[B, T, E] of the batch that was heard last."""
        if self._passed is None:
            return heard.frames
        return nn.functional.layer_norm(self._passed, self._passed.shape[-1:])


@dataclass(frozen=True)
class _Stage:
    config: AlignmentConfig
    llm: LLM
    ears: Ears
    prompts: Prompts
    ctc: nn.Linear
    chat: Chat
    spelling_at: _Tap

    def loss(self, batch: SpeechBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        config, batch = self.config, moved(batch, self.ctc.weight.device)
        self.ears.train()
        fbank = spec_augment(batch.fbank, batch.lengths, self.ears.encoder.mean, config.spec_augment, batch.rng(1))
        heard: Heard = self.ears(fbank, batch.lengths, draw_chunks(config.chunks, batch.rng(2)))
        known = [i for i, item in enumerate(batch.items) if item.answer or not config.answered_only]
        loss, parts = self.llm_loss(batch, heard, known)
        if config.ctc_weight:
            alone = batch.seed[-1] < config.head_first  # a batch's seed ends with its number
            frames = self.spelling_at.frames(heard)
            frames = frames.detach() if alone else frames
            parts["ctc"] = ctc_loss(self.ctc(frames), heard.lengths, [spelling(item.text) for item in batch.items])
            loss = loss + config.ctc_weight * parts["ctc"]
        if config.token_ctc_weight and known:
            lookup = self.ears.adapter.lookup
            assert lookup is not None
            ids = [heard_ids(self.llm, batch.items[i], leading_space=config.leading_space) for i in known]
            parts["token_ctc"] = token_ctc_loss(lookup, [heard.vectors[i] for i in known], ids)
            loss = loss + config.token_ctc_weight * parts["token_ctc"]
        if not loss.requires_grad:  # nobody in the batch has an answer, and nothing else is learnt
            loss = loss + 0.0 * heard.frames.sum()
        return loss, parts

    def llm_loss(self, batch: SpeechBatch, heard: Heard, known: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Through the frozen LLM: answers and transcripts of the rows ``known``."""
        config, draws = self.config, batch.rng(3).random(len(batch.items))
        loss, parts = heard.frames.new_zeros(()), dict[str, Tensor]()
        contexts, targets, asked = [], [], []
        for i in known:
            item, row = batch.items[i], heard.speech[i]
            answer = item.answer if item.answer and draws[i] < config.answer_share else None
            if not (answer or config.transcript_weight):
                continue
            asked.append(answer is not None)
            contexts.append(self.chat.answering(row) if answer else self.transcribing(row))
            targets.append(ids_of(self.llm, answer or self.chat.text(item)))
        if not contexts:
            return loss + self.in_step(heard), parts
        scored = score(self.llm, contexts, targets, self.chat.end_id)
        answers = torch.tensor(asked, device=scored.rows.device)[scored.rows]
        for name, chosen, weight in (("transcript", ~answers, config.transcript_weight), ("answer", answers, 1.0)):
            if chosen.any():
                parts[name] = scored.losses[chosen].mean()
                loss = loss + weight * parts[name]
        return loss, parts

    def in_step(self, heard: Heard) -> Tensor:
        """Zero, after a walk through the LLM if it is sharded: all processes gather its layers together, or none.

        Nothing that trains is on the way: a parameter that has no gradient in one process has none in many.
        """
        if world() == 1:
            return heard.frames.new_zeros(())
        silence = heard.frames.new_zeros(1, self.llm.width).requires_grad_()
        return 0 * score(self.llm, [[silence]], [[]], self.chat.end_id).hidden_states.sum()

    @torch.no_grad()
    def evaluate(self, batches: list[SpeechBatch]) -> Mapping[str, float]:
        self.ears.eval()
        heard, wanted, right, asked = list[str](), list[str](), 0, 0
        chunks = (self.config.chunks.chunk_size, self.config.chunks.left_chunks)
        for batch in (moved(each, self.ctc.weight.device) for each in batches):
            speech = self.ears(batch.fbank, batch.lengths, chunks).speech
            heard += self.read(speech)
            wanted += [item.text for item in batch.items]
            said = self.say([self.chat.answering(row) for row in speech])
            pairs = [(item, text) for item, text in zip(batch.items, said, strict=True) if item.answer]
            right += sum(answered(item.text, item.answer or "", text) for item, text in pairs)
            asked += len(pairs)
        rates = error_rates([plain_words(t) for t in wanted], [plain_words(t) for t in heard])
        return {**rates, "answered": right / max(1, asked)}

    def read(self, speech: list[Tensor]) -> list[str]:
        """What was said: by the adapter's own tokens, or by the LLM in the transcript layout."""
        lookup = self.ears.adapter.lookup
        if lookup is None:
            return self.say([self.transcribing(row) for row in speech])
        return [self.llm.tokenizer.decode(lookup.read(row)).strip() for row in speech]

    def transcribing(self, speech: Tensor) -> list[Tensor]:
        tasks = self.prompts.task_embeddings.weight
        return [tasks[list(BEFORE_SPEECH)], speech, tasks[list(AFTER_SPEECH)]]

    def say(self, contexts: list[list[Tensor]]) -> list[str]:
        ids = continue_greedily(self.llm, contexts, self.chat.end_id, self.config.max_new_tokens)
        return [self.llm.tokenizer.decode(row, skip_special_tokens=True) for row in ids]

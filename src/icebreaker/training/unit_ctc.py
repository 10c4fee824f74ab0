"""LLaMA-Omni, stage 2: the unit decoder learns to speak the LLM's replies, by CTC (arXiv:2409.06666v2, section 3.5).

Encoder, adaptor and LLM are frozen, and stay bit-identical. The states behind each answer come from the LLM reading
the spoken question through the ears of stage 1 (``hearing``), or the conversation as text where that is all there is:
so can every recorded sentence of the assistant's voice teach (ours).
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from icebreaker.config import from_mapping, to_mapping
from icebreaker.errors import ConfigError, DataError
from icebreaker.models.ctc_collapse import collapse, initial_collapse
from icebreaker.models.llm import LLM
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.models.unit_ctc import UnitCTC, UnitCTCConfig
from icebreaker.models.unit_ctc_loss import IGNORED, target_frames, unit_ctc_loss
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.devices import device_of, moved
from icebreaker.training.error_rate import edit_distance
from icebreaker.training.frozen import freeze, stays_frozen
from icebreaker.training.hearing import load_ears
from icebreaker.training.instruct_batches import Hearing, QuestionConfig
from icebreaker.training.llm_layout import ids_of
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.reply_states import StatesRule
from icebreaker.training.speech_instruct import Asker, prompt_of
from icebreaker.training.stage_files import load_into, save_stage, stage_config
from icebreaker.training.unit_ctc_batches import HeardReplies, ReadReplies, Reply, TextConfig
from icebreaker.training.unit_extraction import SpokenUnits, read_units
from icebreaker.training.unit_guide import guide, guided_loss, laid_by_words, laid_evenly
from icebreaker.training.word_times import WordTime, read_word_times

__all__ = ["UnitCTCTrainingConfig", "run"]


@dataclass(frozen=True, kw_only=True)
class HearingConfig:
    """Spoken questions with answers, heard by the ears of ``stage`` (a finished ``speech_instruct``)."""

    stage: Path
    questions: QuestionConfig


@dataclass(frozen=True, kw_only=True)
class UnitCTCTrainingConfig:
    """Everything of one run of this stage. Either ``hearing`` or ``reading``."""

    stage: str = "unit_ctc"
    output: Path
    llm: Path  # Hugging Face folder: of stage 1, where that tuned it
    units: Path  # units.jsonl: what the answers sound like, by the ids of questions or answers
    start_from: Path | None = None  # folder of an earlier run of this stage, of the same units
    model: UnitCTCConfig
    optim: OptimConfig
    hearing: HearingConfig | None = None
    reading: TextConfig | None = None
    guided_steps: int = 0  # ours: so many first steps learn where the units lie roughly, see unit_guide
    word_times: Path | None = None  # of the recordings, from training.align_words: tells it better than letters do
    evaluate_every: int = 200
    evaluate_replies: int = 64

    def __post_init__(self) -> None:
        if (self.hearing is None) == (self.reading is None):
            raise ValueError("expected either hearing (spoken questions) or reading (conversations as text)")


class UnitBatch(NamedTuple):
    """Padded rows; M states, U units."""

    states: Tensor  # [B, M, D]
    lengths: Tensor  # [B]
    units: Tensor  # [B, U], padded with IGNORED


def run(config: UnitCTCTrainingConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leaves ``unit_ctc.*`` and ``config.json`` in ``config.output``."""
    device = device_of(config)
    llm = LLM.load(config.llm, device)
    if llm.width != config.model.llm_dim:
        raise ConfigError(f"model.llm_dim is {config.model.llm_dim}, the LLM {config.llm} is {llm.width} wide")
    torch.manual_seed(config.optim.seed)
    model = UnitCTC(config.model)
    if config.start_from is not None:
        load_into(model, config.start_from, "unit_ctc")
    model.to(device)
    with ExitStack() as frozen:
        hashes = {"llm_weights_sha256": frozen.enter_context(stays_frozen(llm, f"the LLM {config.llm}"))}
        if config.hearing is not None:
            hearing, asker = load_hearing(config.hearing, llm)
            hashes["encoder_sha256"] = frozen.enter_context(stays_frozen(hearing.ears.encoder, "the speech encoder"))
            hashes["adaptor_sha256"] = frozen.enter_context(stays_frozen(asker.adaptor, "the adaptor"))
        words = read_word_times(config.word_times) if config.word_times else {}
        stage = _Stage(config, llm, model, known_units(config), words)
        units = {name: spoken.units for name, spoken in stage.spoken.items()}

        def source(split: str) -> HeardReplies | ReadReplies:
            if config.hearing is not None:
                return HeardReplies(config.hearing.questions, split, hearing, asker, units)
            assert config.reading is not None
            return ReadReplies(config.reading, split, llm, units)

        training, held_out = source("train"), source("valid")
        learning = Run({"unit_ctc": model.train()}, config.optim, llm=llm.model)

        def loss(replies: list[Reply]) -> tuple[Tensor, Mapping[str, Tensor]]:
            guided = learning.step < config.guided_steps
            return stage.guided_loss(training, replies) if guided else stage.loss(training, replies)

        train(
            learning, lambda first: training.batches(first, config.optim.seed), loss, config.output,
            evaluate=lambda: stage.evaluate(held_out), evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
        evaluation = {"evaluation": stage.evaluate(held_out)}
    save_stage(config.output, {"unit_ctc": model}, {**to_mapping(config), **hashes, **evaluation})


def load_hearing(config: HearingConfig, llm: LLM) -> tuple[Hearing, Asker]:
    """Ears and adaptor of a finished stage 1, frozen.

    Raises:
        ConfigError: the stage tuned, or was trained with, another LLM.
    """
    earlier = stage_config(config.stage)
    if (sha256 := weights_sha256(llm)) != earlier.get("llm_weights_sha256"):
        raise ConfigError(
            f"{config.stage} left an LLM of fingerprint {str(earlier.get('llm_weights_sha256'))[:16]}, this one has "
            f"{sha256[:16]}; set llm to {config.stage / 'llm'} if that stage tuned it, else to the one it names"
        )
    adaptor = SpeechAdaptor(from_mapping(SpeechAdaptorConfig, earlier["adaptor"], f"{config.stage}: adaptor"))
    load_into(adaptor, config.stage, "adaptor")
    device = llm.embedding.weight.device
    freeze(adaptor).to(device)
    encoder, whisper = (Path(earlier[name]) if earlier[name] else None for name in ("encoder", "whisper"))
    hearing = Hearing(load_ears(encoder, whisper).to(device), keep=config.questions.keep_frames)
    return hearing, Asker(adaptor, llm, prompt_of(llm, earlier["chat"], earlier["system"], earlier["instruction"]))


def known_units(config: UnitCTCTrainingConfig) -> dict[str, SpokenUnits]:
    """Units and durations by id; recordings without any are left out.

    Raises:
        DataError: there is a unit that the model does not know.
    """
    found = {name: spoken for name, spoken in read_units(config.units).items() if len(spoken.units)}
    largest = max((int(spoken.units.max()) for spoken in found.values()), default=-1)
    if largest >= config.model.units:
        raise DataError(
            f"{config.units}: holds unit {largest}, model.units is {config.model.units}; "
            "set it to the number of k-means centres"
        )
    return found


@dataclass(frozen=True)
class _Stage:
    config: UnitCTCTrainingConfig
    llm: LLM
    model: UnitCTC
    spoken: Mapping[str, SpokenUnits]  # by id
    words: Mapping[str, list[WordTime]]  # by id, where known

    def loss(self, source: "HeardReplies | ReadReplies", replies: list[Reply]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Nats per target unit."""
        batch = self.batch(source, replies)
        frames = target_frames(batch.lengths, batch.units, self.config.model.upsample)
        logits, frames = self.model.train_forward(batch.states, batch.lengths, frames)
        return unit_ctc_loss(logits, frames, batch.units), {}

    def guided_loss(
        self, source: "HeardReplies | ReadReplies", replies: list[Reply]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Nats per frame, each frame told which unit it says."""
        batch = self.batch(source, replies)
        frames = target_frames(batch.lengths, batch.units, self.config.model.upsample)
        logits, frames = self.model.train_forward(batch.states, batch.lengths, frames)
        targets = []
        for reply, states, length in zip(replies, batch.lengths.tolist(), frames.tolist(), strict=True):
            spoken = self.spoken[reply.item.id]
            targets.append(guide(self.edges(source.said(reply), reply.item.id, spoken), states, length, spoken))
        return guided_loss(logits, targets), {}

    def edges(self, text: str, name: str, spoken: SpokenUnits) -> Tensor:
        """When each token of a reply is said, [tokens + 1] in frames of the recording ``name``."""
        tokenizer = self.llm.tokenizer
        if words := self.words.get(name):
            encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            return laid_by_words(encoded["offset_mapping"], words)
        return laid_evenly([len(tokenizer.decode([token])) for token in ids_of(self.llm, text)], spoken)

    def batch(self, source: "HeardReplies | ReadReplies", replies: list[Reply]) -> UnitBatch:
        """States and units of some replies, padded."""
        rule: StatesRule = self.config.model.states
        states = source.states(replies, rule)
        pad = torch.nn.utils.rnn.pad_sequence
        units = pad([reply.units for reply in replies], batch_first=True, padding_value=IGNORED)
        batch = UnitBatch(pad(states, batch_first=True), torch.tensor([len(row) for row in states]), units)
        return moved(batch, batch.states.device)

    @torch.no_grad()
    def evaluate(self, source: "HeardReplies | ReadReplies") -> dict[str, float]:
        """Loss per unit, and edits per unit of what the best path says, on held-out replies, at 25 frames a token."""
        self.model.eval()
        loss, edits, count = 0.0, 0, 0
        for replies in source.fixed(self.config.evaluate_replies):
            batch = self.batch(source, replies)
            wanted = sum(len(reply.units) for reply in replies)
            loss += float(self.loss(source, replies)[0]) * wanted
            logits, frames = self.model.train_forward(batch.states, batch.lengths)
            start = initial_collapse(len(replies), logits.device)
            said, _ = collapse(logits.argmax(dim=-1), frames, self.config.model.blank, start)
            for reply, units in zip(replies, said, strict=True):
                edits += edit_distance([str(u) for u in reply.units.tolist()], [str(u) for u in units])
            count += wanted
        self.model.train()
        return {"valid_loss": loss / count, "unit_error": edits / count}

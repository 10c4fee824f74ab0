"""Input stage 3: prompt embeddings and the state head; everything else is frozen (arXiv:2411.00774, speech input).

The LLM sees [earlier exchange] system, user prefix, prompts, speech, suffix, answer. The answer's cross entropy trains
the prompts; the state head reads the hidden state of each chunk's last position and trains itself and the prompts.
Then the prompts are fixed too, and the head is fitted to its end on the states of ``head_scenes`` more scenes (ours).
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from icebreaker.config import to_mapping
from icebreaker.data.manifest import Item
from icebreaker.errors import ConfigError
from icebreaker.models.llm import LLM
from icebreaker.models.prompts import Prompts
from icebreaker.models.turn_head import TurnHead
from icebreaker.nn.weights import weights_sha256
from icebreaker.training.devices import device_of, moved
from icebreaker.training.ears import Chat, Ears, load_ears
from icebreaker.training.error_rate import answered
from icebreaker.training.feature_augment import FeatureAugmentConfig
from icebreaker.training.frozen import freeze, stays_frozen
from icebreaker.training.head_fit import fit_head
from icebreaker.training.llm_layout import continue_greedily, ids_of, score
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.scene_sounds import Sounds
from icebreaker.training.scenes import CHUNK_FRAMES, IGNORE, KINDS, OF_ASIDES, Scene, SceneConfig, scenes
from icebreaker.training.speech_batches import SpeechBatch, SpeechConfig, SpeechSource
from icebreaker.training.stage_files import load_into, save_stage, stage_config
from icebreaker.training.turn_scores import Outcome, outcome, turn_figures

__all__ = ["SpokenQAConfig", "run"]

logger = logging.getLogger(__name__)
FITTING = 1 << 24  # the first batch that the head is fitted to: far from those of any training run
EVALUATED = ("valid",)


@dataclass(frozen=True, kw_only=True)
class SpokenQAConfig:
    """Everything of one run of this stage."""

    stage: str = "spoken_qa"
    output: str
    llm: str  # Hugging Face folder
    alignment: str  # folder of stage alignment
    data: SpeechConfig
    optim: OptimConfig
    scenes: SceneConfig = field(default_factory=SceneConfig)
    conversations: str | None = None  # folder of text conversations: the questions as they are written
    prompts: int = 8
    classes: int = 4
    certainty: float = 1.0  # of an adapter that looks tokens up: as the model will be used
    state_weight: float = 1.0
    history_share: float = 0.3  # of the rows come after an earlier exchange, as text
    head_hidden: int = 0  # width of a hidden layer of the state head (ours); 0: none
    head_scenes: int = 3000  # for fitting the head at the end; 0 leaves it as it trained
    evaluate_every: int = 100
    evaluate_recordings: int = 128
    scenes_per_kind: int = 64  # of unseen voices, in the last evaluation
    max_new_tokens: int = 40


def run(config: SpokenQAConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leaves ``prompts.*``, ``turn_head.*`` and ``config.json`` in ``config.output``."""
    if config.data.frame_multiple != CHUNK_FRAMES:
        raise ConfigError(f"data.frame_multiple must be {CHUNK_FRAMES}, whole chunks, got {config.data.frame_multiple}")
    device = device_of(config)
    folder, source = Path(config.output), SpeechSource(config.data, with_answer=True)
    earlier = stage_config(Path(config.alignment))
    llm = LLM.load(Path(config.llm), device)
    ears = load_ears(Path(config.alignment)).to(device)
    if ears.adapter.lookup is not None:
        ears.adapter.lookup.certainty = config.certainty
    torch.manual_seed(config.optim.seed)
    prompts = Prompts(llm.width, int(earlier["prompts"]), int(earlier["tasks"]))
    load_into(prompts, Path(config.alignment), "prompts")
    if config.prompts != earlier["prompts"]:
        raise ConfigError(f"prompts is {config.prompts} but stage alignment made {earlier['prompts']}; set both alike")
    prompts.to(device).task_embeddings.requires_grad_(False)
    head = TurnHead(llm.width, config.classes, config.head_hidden).to(device)
    training = Run({"prompts": prompts, "turn_head": head}, config.optim, llm=llm.model)
    sounds, unseen = _sounds(config, ("train",)), _sounds(config, EVALUATED)
    stage = _Stage(config, llm, ears, prompts, head, Chat(llm, config.conversations), sounds)
    validation = source.evaluation(EVALUATED, config.evaluate_recordings)
    spread = source.evaluation(EVALUATED, config.scenes_per_kind)
    before_ears = weights_sha256(freeze(ears))
    with stays_frozen(llm, "the LLM") as before, stays_frozen(ears, "encoder and adapter"):
        train(
            training, source.batches, stage.loss, folder,
            evaluate=lambda: stage.answers(validation), evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
        if config.head_scenes:
            stage.fit(source.batches(FITTING))
        figures = {**stage.answers(validation), "text_to_text": stage.text_to_text(validation)}
        figures |= stage.turns(spread, unseen)
    hashes = {
        "llm_sha256": {"before": before, "after": before},
        "ears_sha256": {"before": before_ears, "after": before_ears},
    }
    save_stage(folder, {"prompts": prompts, "turn_head": head}, {**to_mapping(config), **hashes, "evaluation": figures})


def _sounds(config: SpokenQAConfig, splits: tuple[str, ...]) -> Sounds | None:
    """Recordings for scenes: augmented as the speech is for training, as they are for evaluation."""
    made = config.scenes
    if made.asides is None or made.aside_features is None:
        return None
    change = config.data.augment if splits == ("train",) else FeatureAugmentConfig()
    return Sounds(made.asides, made.aside_features, splits, change)


@dataclass(frozen=True)
class _Stage:
    config: SpokenQAConfig
    llm: LLM
    ears: Ears
    prompts: Prompts
    head: TurnHead
    chat: Chat
    sounds: Sounds | None

    def loss(self, batch: SpeechBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        made, rng = scenes(batch, self.config.scenes, self.sounds), batch.rng(8)
        speech = self.hear(made)
        fronts, contexts, targets = list[int](), list[list[Tensor]](), list[list[int]]()
        for row, (scene, item) in enumerate(zip(made, batch.items, strict=True)):
            front = self.front(self.earlier(batch.items, row, rng))
            asked = scene.kind == "question" and item.answer
            fronts.append(sum(len(piece) for piece in front))
            contexts.append([*front, speech[row], *([self.chat.suffix] if asked else [])])
            targets.append(ids_of(self.llm, item.answer) if asked and item.answer else [])
        scored = score(self.llm, contexts, targets, self.chat.end_id)
        states = self.chunk_states(scored.hidden_states, fronts, speech)
        labels = torch.cat([s.labels for s in made]).to(states.device)
        state_loss = F.cross_entropy(self.head.logits(states), labels, ignore_index=IGNORE)
        answer_loss = scored.losses.mean() if len(scored.losses) else state_loss.new_zeros(())
        known = labels != IGNORE
        right = (self.head(states).argmax(dim=-1) == labels)[known].float().mean()
        parts = {"answer": answer_loss, "state": state_loss, "state_accuracy": right}
        return answer_loss + self.config.state_weight * state_loss, parts

    def hear(self, made: list[Scene]) -> list[Tensor]:
        fbank = nn.utils.rnn.pad_sequence([scene.fbank for scene in made], batch_first=True)
        lengths = torch.tensor([len(scene.fbank) for scene in made])
        deployed = self.ears.encoder.config
        fbank, lengths = moved((fbank, lengths), self.ears.encoder.mean.device)
        with torch.no_grad():
            speech: list[Tensor] = self.ears(fbank, lengths, (deployed.chunk_size, deployed.left_chunks)).speech
        return speech

    def front(self, earlier: Item | None) -> list[Tensor]:
        history = [] if earlier is None else self.chat.exchange(earlier)
        return [self.chat.before, *history, self.chat.user_prefix, self.prompts.prompt_embeddings.weight]

    def earlier(self, items: list[Item], row: int, rng: np.random.Generator) -> Item | None:
        other = items[int(rng.integers(len(items)))]
        return other if rng.random() < self.config.history_share and other.answer and other is not items[row] else None

    def chunk_states(self, hidden_states: Tensor, fronts: list[int], speech: list[Tensor]) -> Tensor:
        """[N, D] hidden states of the last position of every chunk, row after row."""
        step = CHUNK_FRAMES // 4 // self.ears.adapter.stride
        places = [
            hidden_states[row, front + step - 1 : front + len(heard) : step]
            for row, (front, heard) in enumerate(zip(fronts, speech, strict=True))
        ]
        return torch.cat(places)

    @torch.no_grad()
    def states(self, made: list[Scene], fronts: list[list[Tensor]]) -> list[Tensor]:
        """[chunks, D] hidden states of every scene, heard after its front."""
        speech = self.hear(made)
        contexts = [[*front, row] for front, row in zip(fronts, speech, strict=True)]
        scored = score(self.llm, contexts, [[] for _ in speech], self.chat.end_id)
        lengths = [sum(len(piece) for piece in front) for front in fronts]
        states = self.chunk_states(scored.hidden_states, lengths, speech)
        return list(states.split([len(scene.labels) for scene in made]))

    def fit(self, batches: Iterator[SpeechBatch]) -> None:
        """Fit the head to the states of ``config.head_scenes`` scenes, prompts and all else as they are."""
        states, labels, count = list[Tensor](), list[Tensor](), 0
        while count < self.config.head_scenes:
            batch = next(batches)
            made, rng = scenes(batch, self.config.scenes, self.sounds), batch.rng(8)
            fronts = [self.front(self.earlier(batch.items, row, rng)) for row in range(len(made))]
            states += self.states(made, fronts)
            labels += [scene.labels for scene in made]
            count += len(made)
        seen = torch.cat(states)
        wanted = torch.cat(labels).to(seen.device)
        loss = fit_head(self.head, seen, wanted, ignore=IGNORE)
        logger.info("fitted the head to %d scenes: cross entropy %.4f", count, loss)

    @torch.no_grad()
    def answers(self, batches: list[SpeechBatch]) -> dict[str, float]:
        """Share of whole questions of unseen voices that are answered rightly."""
        right, asked = 0, 0
        for batch in batches:
            front = self.front(None)
            speech = self.hear(scenes(batch, self.config.scenes, None, "question"))
            said = self.say([[*front, row, self.chat.suffix] for row in speech])
            right += sum(answered(i.text, i.answer or "", s) for i, s in zip(batch.items, said, strict=True))
            asked += len(said)
        return {"answered": right / asked}

    @torch.no_grad()
    def turns(self, batches: list[SpeechBatch], sounds: Sounds | None) -> dict[str, float]:
        """What the head does in scenes of every kind that can be made, of unseen voices."""
        outcomes = list[Outcome]()
        for kind in KINDS:
            if kind in OF_ASIDES and sounds is None:
                continue
            for batch in batches:
                made = [s for s in scenes(batch, self.config.scenes, sounds, kind) if s.kind == kind]
                states = self.states(made, [self.front(None)] * len(made)) if made else []
                outcomes += [outcome(self.head(row), scene) for row, scene in zip(states, made, strict=True)]
        return turn_figures(outcomes)

    @torch.no_grad()
    def text_to_text(self, batches: list[SpeechBatch]) -> float:
        """The same questions as text: what the frozen LLM answers at best."""
        right, asked = 0, 0
        for batch in batches:
            said = self.say([self.chat.asking(item) for item in batch.items])
            right += sum(answered(i.text, i.answer or "", s) for i, s in zip(batch.items, said, strict=True))
            asked += len(said)
        return right / asked

    def say(self, contexts: list[list[Tensor]]) -> list[str]:
        ids = continue_greedily(self.llm, contexts, self.chat.end_id, self.config.max_new_tokens)
        return [self.llm.tokenizer.decode(row, skip_special_tokens=True) for row in ids]

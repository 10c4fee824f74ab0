"""Before input stage 2 (ours): the adapter alone learns to speak in the LLM's tokens, by CTC over their embeddings.

A large LLM gives a random adapter a direction to learn in; a small one does not (measured with mini: 1000 steps of
stage alignment from a random adapter answer 2 % of the questions). Encoder and LLM are frozen, so the encoder's frames
are computed once, kept in memory, and an adapter takes minutes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from icebreaker.config import to_mapping
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.llm import LLM
from icebreaker.models.token_lookup import TokenLookup
from icebreaker.training.devices import device_of
from icebreaker.training.ears import heard_ids, project, token_ctc_loss
from icebreaker.training.encoder_ctc import ChunkConfig
from icebreaker.training.error_rate import error_rates, plain_words
from icebreaker.training.frozen import freeze, stays_frozen
from icebreaker.training.heard_pool import Frames, draw, drawn, listen, padded
from icebreaker.training.hearing import load_encoder
from icebreaker.training.loop import OptimConfig, Run, StepReport, train
from icebreaker.training.speech_batches import SpeechConfig, SpeechSource
from icebreaker.training.stage_files import save_stage

__all__ = ["AdapterCTCConfig", "run"]


@dataclass(frozen=True, kw_only=True)
class AdapterCTCConfig:
    """Everything of one run of this stage."""

    stage: str = "adapter_ctc"
    output: str
    llm: str  # Hugging Face folder
    encoder: str  # folder of stage encoder_ctc
    adapter: AdapterConfig
    data: SpeechConfig
    optim: OptimConfig
    chunks: ChunkConfig = field(default_factory=ChunkConfig)
    leading_space: bool = False  # as the backbone was trained: the first word is said with a space before it
    answered_only: bool = False  # only recordings with an answer: for an LLM of a narrow domain
    recordings: int = 12_000  # drawn once, as varied as any batch
    rows: int = 48  # of a batch
    evaluate_every: int = 300
    evaluate_recordings: int = 96

    def __post_init__(self) -> None:
        if not self.adapter.vocabulary:
            raise ValueError("this stage trains an adapter that looks tokens up; set adapter.vocabulary to the LLM's")


def run(config: AdapterCTCConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Train; leaves ``adapter.*`` and ``config.json`` in ``config.output``."""
    device = device_of(config)
    llm = LLM.load(Path(config.llm))  # on the CPU: only its tokens' embeddings are looked at
    encoder = load_encoder(Path(config.encoder))
    freeze(encoder).to(device)
    torch.manual_seed(config.optim.seed)
    adapter = Adapter(config.adapter)
    assert adapter.lookup is not None
    adapter.lookup.follow(llm.embedding.weight)
    adapter.to(device)
    stage = _Stage(config, llm, adapter, adapter.lookup)
    source = SpeechSource(config.data, with_answer=config.answered_only)
    chunks = config.chunks.chunk_size, config.chunks.left_chunks
    validation = listen(encoder, chunks, source.evaluation(("valid",), config.evaluate_recordings))
    pool = listen(encoder, chunks, draw(source, config.recordings))
    with stays_frozen(llm, "the LLM") as before:
        train(
            Run({"adapter": adapter}, config.optim),
            lambda first: drawn(pool, config.rows, config.optim.seed, first),
            stage.loss, Path(config.output),
            evaluate=lambda: stage.evaluate(validation), evaluate_every=config.evaluate_every, progress=progress,
        )  # fmt: skip
    save_stage(
        Path(config.output),
        {"adapter": adapter},
        {
            **to_mapping(config),
            "llm_sha256": {"before": before, "after": before},  # stays_frozen has compared them
            "evaluation": dict(stage.evaluate(validation)),
        },
    )


@dataclass(frozen=True)
class _Stage:
    config: AdapterCTCConfig
    llm: LLM
    adapter: Adapter
    lookup: TokenLookup

    def loss(self, batch: list[Frames]) -> tuple[Tensor, Mapping[str, Tensor]]:
        ids = [heard_ids(self.llm, row.item, leading_space=self.config.leading_space) for row in batch]
        return token_ctc_loss(self.lookup, self.speak(batch), ids), {}

    def speak(self, batch: list[Frames]) -> list[Tensor]:
        """The adapter's vectors, [n, D] per row."""
        heard = padded(batch, self.lookup.tokens.device)
        return project(self.adapter, heard.frames, heard.lengths)

    @torch.no_grad()
    def evaluate(self, heard: list[Frames]) -> Mapping[str, float]:
        """Error rates of what the best path says, on unheard recordings."""
        said = []
        for first in range(0, len(heard), self.config.rows):
            for row in self.speak(heard[first : first + self.config.rows]):
                said.append(self.llm.tokenizer.decode(self.lookup.read(row)).strip())
        return error_rates([plain_words(row.item.text) for row in heard], [plain_words(text) for text in said])

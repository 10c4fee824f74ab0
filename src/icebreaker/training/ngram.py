"""Stage: what users say, counted: the language model of the second pass (``dialogue.second_pass``; ours).

Counts the user's turns of the training conversations, each wording once or a few times, and sentences that nobody
answers, as tokens of the LLM. Neither the LLM nor any sound is looked at; it takes seconds.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from icebreaker.config import to_mapping
from icebreaker.data.corpus import read_conversations
from icebreaker.data.manifest import read_manifest
from icebreaker.data.text import normalise
from icebreaker.models.ngram import NGram
from icebreaker.training.loop import StepReport
from icebreaker.training.stage_files import save_stage

__all__ = ["NGramTrainingConfig", "run"]


@dataclass(frozen=True, kw_only=True)
class NGramTrainingConfig:
    """Whose words, and how many of them in a row.

    Attributes:
        llm: folder of the LLM; its tokenizer is read.
        conversations: folder of text conversations; their split train is counted.
        sentences: manifest of recordings whose texts of split train are counted, too.
        order: tokens of the longest n-grams.
        most: times that one wording counts at most.
        leading_space: whether the ears say the first word as it is within a sentence (stage alignment).
    """

    stage: str = "ngram"
    output: Path
    llm: Path
    conversations: Path
    sentences: Path | None = None
    order: int = 4
    most: int = 3
    leading_space: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.order, self.most) < 1:
            raise ValueError(f"order and most: expected at least 1, got {self.order} and {self.most}")


def run(config: NGramTrainingConfig, progress: Callable[[StepReport], None] = lambda report: None) -> None:
    """Leave ``language.*`` and ``config.json`` in ``config.output``."""
    tokenizer = AutoTokenizer.from_pretrained(config.llm)
    said = Counter[str]()
    for conversation in read_conversations(config.conversations / "train.jsonl"):
        said.update(normalise(turn["text"]) for turn in conversation["turns"] if turn["role"] == "user")
    if config.sentences is not None:
        said.update({normalise(item.text) for item in read_manifest(config.sentences) if item.split == "train"})
    space = " " if config.leading_space else ""
    wordings = sorted(said.items())
    ids = tokenizer([space + text for text, _ in wordings], add_special_tokens=False)["input_ids"]
    counted = ((row, min(count, config.most)) for row, (_, count) in zip(ids, wordings, strict=True))
    language = NGram.counted(counted, len(tokenizer), config.order)
    config.output.mkdir(parents=True, exist_ok=True)
    progress(StepReport(len(said), 0.0, 0.0, 0.0, {}, len(said)))
    save_stage(
        config.output,
        {"language": language},
        {**to_mapping(config), "language": to_mapping(language.config), "wordings": len(said)},
    )

"""All the mini model's data by one configuration. Knows nothing of the command line or of training.

``text`` comes first; ``questions``, ``natural``, ``words`` and ``answers`` speak it; ``sentences`` and ``human`` stand
alone; ``asides`` needs ``human`` and ``answers``; ``revoiced`` takes what there is to be heard; ``features`` comes
last, for the stages that listen. ``out`` gets a folder for each.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from icebreaker.data.asides import build_asides
from icebreaker.data.corpus import build_text
from icebreaker.data.corpus_facts import TABLES
from icebreaker.data.features import build_features
from icebreaker.data.human import build_human
from icebreaker.data.recording import Progress
from icebreaker.data.revoiced import build_revoiced
from icebreaker.data.spoken import build_answers, build_natural, build_questions, build_sentences, build_words
from icebreaker.data.spread import Spread, here
from icebreaker.errors import DataError

__all__ = ["DataConfig", "Part", "build"]

Part = Literal[
    "text", "questions", "natural", "sentences", "answers", "human", "asides", "words", "revoiced", "features"
]

HEARD = ("questions", "natural", "sentences", "human", "asides", "words", "revoiced")  # what has features


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Sizes and seeds. Equal configurations give byte-identical text and the same recordings."""

    seed: int = 0
    conversations: int = 60_000
    held_out_conversations: int = 1500
    styled_conversations: int = 0  # under other system prompts
    requests: int = 0  # conversations of people's own wordings
    most_facts: int = 0  # of a relation; 0 keeps all of them
    without: tuple[str, ...] = ()  # kinds of relations to leave out of the text
    tables: tuple[str, ...] = TABLES  # of facts that the text is made of
    questions: int = 7500
    held_out_questions: int = 500
    more_questions: int = 0  # in all voices that cost little
    level_questions: int = 0  # that have words which the others seldom say
    other_questions_share: float = 0.35  # sentences that are no questions of the corpus, for breadth
    natural: int = 5000  # of the neural voices, see neural_voices.py
    held_out_natural: int = 80
    more_natural: int = 0  # questions, of Kokoro alone
    sentences: int = 16_000
    asides: int = 600  # of each kind
    words: int = 12_000  # lists of them
    revoiced: int = 15_000  # recordings of the parts before in other voices, see revoice.py
    answers: int | None = None  # distinct answers that are spoken; None: all of them
    other_answers_share: float = 0.5
    workers: int = 1  # synthesisers at a time

    def __post_init__(self) -> None:
        for name in ("other_questions_share", "other_answers_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a share from 0 to below 1, got {getattr(self, name)}")


def build(part: Part, config: DataConfig, *, source: Path, out: Path, progress: Progress, spread: Spread = here) -> int:
    """Build one part under ``out / part`` and say how many conversations or recordings it has.

    Args:
        part: what to build.
        config: sizes and seeds.
        source: the data folder with ``text/`` and ``speechocean762-train/``.
        out: the folder of all parts.
        progress: called with the recordings done so far and their total.
        spread: who does the work of speaking and listening.

    Raises:
        DataError: something is missing: a synthesiser, the sources, or the text that is to be spoken.
        ValueError: no such part.
    """
    text = out / "text"
    if part in ("questions", "natural", "answers", "words") and not (text / "test.jsonl").is_file():
        raise DataError(f"{text}: no conversations to speak; run `icebreaker data text` first")
    how: dict[str, Any] = {"workers": config.workers, "progress": progress, "spread": spread, "seed": config.seed}
    asked: dict[str, Any] = {"other_share": config.other_questions_share, **how}
    match part:
        case "text":
            return _text(config, source, text)
        case "questions":
            size, held_out = config.questions, config.held_out_questions
            more, level = config.more_questions, config.level_questions
            return build_questions(
                source, text, out / part, items=size, held_out=held_out, more=more, level=level, **asked
            )
        case "natural":
            size, held_out = config.natural, config.held_out_natural
            more = config.more_natural
            return build_natural(source, text, out / part, items=size, held_out=held_out, more=more, **asked)
        case "sentences":
            return build_sentences(source, out / part, items=config.sentences, **how)
        case "answers":
            share = config.other_answers_share
            return build_answers(source, text, out / part, items=config.answers, other_share=share, **how)
        case "asides":
            return build_asides(out, out / part, items=config.asides, **how)
        case "words":
            return build_words(text, out / part, items=config.words, **how)
        case "revoiced":
            return build_revoiced(out, out / part, items=config.revoiced, **how)
        case "features":
            return _features(out, progress, spread)
        case "human":
            return build_human(source, out / part, progress=progress)
        case _:
            raise ValueError(f"expected one of {', '.join(get_args(Part))}, got {part!r}")


def _text(config: DataConfig, source: Path, out: Path) -> int:
    counts = build_text(
        out, source=source, conversations=config.conversations, held_out=config.held_out_conversations,
        most_facts=config.most_facts or None, without=config.without, tables=config.tables,
        styled=config.styled_conversations, requests=config.requests, seed=config.seed,
    )  # fmt: skip
    return sum(counts.values())


def _features(out: Path, progress: Progress, spread: Spread) -> int:
    heard = [name for name in HEARD if (out / name / "manifest.jsonl").is_file()]
    if not heard:
        raise DataError(f"{out}: no recordings to hear; run `icebreaker data questions` first")
    return sum(
        build_features(out / name / "manifest.jsonl", out / "features" / name, progress=progress, spread=spread)
        for name in heard
    )

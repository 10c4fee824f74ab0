"""What one InstructS2S data set is made of; a folder belongs to one of them. Knows nothing of how it is made."""

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icebreaker.config import to_mapping
from icebreaker.data.text_llm import TextLLMConfig
from icebreaker.data.tts import SpeakerConfig
from icebreaker.errors import DataError

__all__ = ["InstructS2SConfig", "claim_folder"]

RECIPE = "recipe.json"
HURRY = ("workers", "timeout_s", "tries", "device")  # of the LLM: they change the pace, not the data


@dataclass(frozen=True, kw_only=True)
class InstructS2SConfig:
    """Sources, LLM, voices and limits. Equal configurations give the same data."""

    sources: tuple[Path, ...]
    llm: TextLLMConfig
    question_voices: tuple[SpeakerConfig, ...]
    answer_voice: SpeakerConfig
    units: Path | None = None  # TOML file of a finished stage "units"; left out: no units
    limit: int | None = None  # instructions
    plain_replies: bool = False  # replies that are no JSON are the text itself: for LLMs too small to write JSON
    most_instruction_words: int = 80
    most_question_words: int = 50
    most_answer_words: int = 80
    most_question_seconds: float = 30.0  # what a Whisper encoder hears
    question_rate: int = 16_000
    answer_rate: int = 16_000
    speech_workers: int = 1  # groups of sentences that are synthesised at a time
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.sources or not self.question_voices or self.speech_workers < 1:
            raise ValueError("expected at least one source, one question voice and one of speech_workers")
        names = [voice.name for voice in (*self.question_voices, self.answer_voice)]
        if twice := [name for name, count in Counter(names[:-1]).items() if count > 1]:
            raise ValueError(f"two question voices are called {twice[0]!r}")


def claim_folder(config: InstructS2SConfig, out: Path) -> None:
    """Write ``config`` to ``out/recipe.json``.

    Raises:
        DataError: the folder was begun with another one.
    """
    values = json.loads(json.dumps(to_mapping(config), default=_plain))
    for name in HURRY:
        values["llm"].pop(name)
    values.pop("speech_workers")
    path = out / RECIPE
    if path.exists() and (old := json.loads(path.read_text())) != values:
        changed = sorted(key for key in old.keys() | values.keys() if old.get(key) != values.get(key))
        raise DataError(f"{out} was begun with another {', '.join(changed)}; choose another --out")
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{RECIPE}.aside")
        aside.write_text(json.dumps(values, indent=2) + "\n")
        aside.replace(path)


def _plain(value: Any) -> Any:
    return to_mapping(value) if dataclasses.is_dataclass(value) else str(value)

"""The stage that counts what users say."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny_folder import write_llm

from icebreaker.config import from_mapping, load_toml
from icebreaker.models.llm import LLM
from icebreaker.models.ngram import NGram, NGramConfig
from icebreaker.training.ngram import NGramTrainingConfig, run

CONFIGS = Path(__file__).parents[2] / "configs"
USERS = ["What is it?", "What is it", "What is that?", "Go home!"]


@pytest.fixture
def config(tmp_path: Path) -> NGramTrainingConfig:
    rows = [
        {"id": str(i), "system": None, "turns": [{"role": "user", "text": text}, {"role": "assistant", "text": "Zzz."}]}
        for i, text in enumerate(USERS)
    ]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_llm(tmp_path / "llm")
    return NGramTrainingConfig(
        output=tmp_path / "out", llm=tmp_path / "llm", conversations=tmp_path / "text", order=3, leading_space=True
    )


def test_users_words_are_counted_as_they_are_heard(config: NGramTrainingConfig) -> None:
    run(config)
    values = json.loads((config.output / "config.json").read_text())
    assert values["wordings"] == 3
    language = NGram(from_mapping(NGramConfig, values["language"], "test"))
    weights = load_file(config.output / "model.safetensors")
    language.load_state_dict({name.removeprefix("language."): value for name, value in weights.items()})
    encode = LLM.load(config.llm).tokenizer.encode
    first, other = (encode(text, add_special_tokens=False) for text in (" what is it", "zzz"))
    begin, end = (language.begin,), np.array([language.end])
    assert np.exp(language.log_p(begin, np.array(first[:1])))[0] > 0.7
    assert np.exp(language.log_p(tuple(first), end))[0] > 0.5
    assert np.exp(language.log_p((), np.array(other)))[0] < 0.05, "what assistants say is not counted"


def test_it_depends_on_nothing_but_the_words(config: NGramTrainingConfig) -> None:
    run(config)
    first = (config.output / "model.safetensors").read_bytes()
    lines = (config.conversations / "train.jsonl").read_text().splitlines()
    (config.conversations / "train.jsonl").write_text("\n".join(reversed(lines)))
    run(config)
    assert (config.output / "model.safetensors").read_bytes() == first


def test_configurations_fit() -> None:
    for family in ("mini", "mini-llama-omni"):
        config = load_toml(CONFIGS / family / "ngram.toml", NGramTrainingConfig)
        assert config.leading_space, "as the ears' tokens are (alignment, speech_instruct)"
    with pytest.raises(ValueError, match="order and most"):
        NGramTrainingConfig(output=Path("o"), llm=Path("l"), conversations=Path("c"), order=0)

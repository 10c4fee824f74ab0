"""An LLM that writes text for the data recipes: behind any OpenAI-compatible endpoint, or in a local folder.

Knows nothing of what it is asked. Replies come in the order of the prompts, and the same seed gives the same replies:
from an endpoint as far as its server honours ``seed``, from a folder but for the rounding of batches of other sizes.
"""

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import torch

from icebreaker.data.http import Poster, Refused
from icebreaker.data.in_order import in_order
from icebreaker.data.spread import Spread
from icebreaker.errors import DataError
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.llm import LLM
from icebreaker.models.sampling import SamplingConfig, sample

__all__ = ["Asked", "EndpointLLM", "FolderLLM", "TextLLM", "TextLLMConfig", "load_text_llm", "spread_replies"]


class Asked(NamedTuple):
    """One prompt; ``seed`` makes its reply its own, whatever is asked before or beside it."""

    system: str
    text: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class TextLLMConfig:
    """Either ``endpoint`` (such as "http://localhost:8000/v1") and ``model``, or ``folder``, a Hugging Face LLM."""

    endpoint: str | None = None
    model: str = ""
    api_key_variable: str = ""  # the environment variable that holds the key, if one is needed
    folder: str | None = None
    device: str = "cpu"
    temperature: float = 0.7  # 0: greedy
    top_p: float = 0.95
    max_new_tokens: int = 256
    workers: int = 8  # requests at a time; rows at a time of a local LLM
    timeout_s: float = 120.0
    tries: int = 6

    def __post_init__(self) -> None:
        if (self.endpoint is None) == (self.folder is None):
            raise ValueError("expected either endpoint (with model) or folder")
        if self.endpoint is not None and not self.model:
            raise ValueError("endpoint needs model, the name the server knows it by")
        if self.workers < 1 or self.max_new_tokens < 1 or self.tries < 1:
            raise ValueError("workers, max_new_tokens and tries must be at least 1")


class TextLLM(Protocol):
    """What the recipe needs of an LLM."""

    def replies(self, asked: Sequence[Asked]) -> Iterator[str | None]:
        """A reply per prompt, in order, as they come; None where the LLM refused the prompt."""


def load_text_llm(config: TextLLMConfig) -> TextLLM:
    """The LLM that ``config`` names."""
    if config.endpoint is not None:
        return EndpointLLM(config)
    assert config.folder is not None
    return FolderLLM(LLM.load(config.folder, config.device), config)


def spread_replies(config: TextLLMConfig, asked: Sequence[Asked], spread: Spread) -> Iterator[str | None]:
    """As ``TextLLM.replies``, ``config.workers`` prompts at a time, by workers that each load the LLM once."""
    groups = [list(asked[start : start + config.workers]) for start in range(0, len(asked), config.workers)]
    gpus = 1.0 if config.endpoint is None and config.device.startswith("cuda") else 0.0
    for said in spread(functools.partial(_reply_group, config), groups, gpus=gpus):
        yield from said


def _reply_group(config: TextLLMConfig, group: list[Asked]) -> list[str | None]:
    return list(_loaded(config).replies(group))


_loaded = functools.cache(load_text_llm)  # once in each worker


class EndpointLLM:
    """``POST {endpoint}/chat/completions``, several at a time."""

    def __init__(self, config: TextLLMConfig, poster: Poster | None = None) -> None:
        self.config = config
        headers = {}
        if config.api_key_variable:
            if not (key := os.environ.get(config.api_key_variable)):
                raise DataError(
                    f"the environment variable {config.api_key_variable} is not set; it should hold the key"
                )
            headers["Authorization"] = f"Bearer {key}"
        url = f"{str(config.endpoint).rstrip('/')}/chat/completions"
        self.poster = poster or Poster(url, headers=headers, timeout_s=config.timeout_s, tries=config.tries)

    def replies(self, asked: Sequence[Asked]) -> Iterator[str | None]:
        """As ``TextLLM.replies``; at most ``workers`` prompts are on their way beyond the reply that is waited for."""
        return in_order(self._reply, asked, self.config.workers)

    def _reply(self, asked: Asked) -> str | None:
        config = self.config
        messages = [{"role": "system", "content": asked.system}, {"role": "user", "content": asked.text}]
        try:
            response = self.poster.post(
                {
                    "model": config.model, "messages": messages, "temperature": config.temperature,
                    "top_p": config.top_p, "max_tokens": config.max_new_tokens, "seed": asked.seed,
                }
            )  # fmt: skip
        except Refused:
            return None
        try:
            return str(response.json()["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(
                f"{self.poster.url}: not a chat completion: {response.text[:200]!r}; "
                "is this an OpenAI-compatible server?"
            ) from error


class FolderLLM:
    """Our LLM runtime on a local folder; rows of a batch do not see each other."""

    def __init__(self, llm: LLM, config: TextLLMConfig) -> None:
        self.llm, self.config = llm, config
        self.sampling = SamplingConfig(temperature=config.temperature, top_p=config.top_p)
        self.prompts: dict[str, ChatPrompt] = {}

    def replies(self, asked: Sequence[Asked]) -> Iterator[str | None]:
        """As ``TextLLM.replies``; prompts over the LLM's context are refused."""
        waiting = iter(asked)
        while group := list(islice(waiting, self.config.workers)):
            yield from self._replies(group)

    def _replies(self, group: list[Asked]) -> list[str | None]:
        rows = [self._ids(one) for one in group]
        longest = getattr(self.llm.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30
        fits = [i for i, ids in enumerate(rows) if len(ids) + self.config.max_new_tokens <= longest]
        said = self._continue([rows[i] for i in fits], [group[i].seed for i in fits]) if fits else []
        texts = dict(zip(fits, said, strict=True))
        decode = self.llm.tokenizer.decode
        return [decode(texts[i], skip_special_tokens=True).strip() if i in texts else None for i in range(len(group))]

    def _ids(self, asked: Asked) -> list[int]:
        if asked.system not in self.prompts:
            self.prompts[asked.system] = ChatPrompt.from_tokenizer(self.llm.tokenizer, asked.system)
        prompt = self.prompts[asked.system]
        said = self.llm.tokenizer.encode(asked.text, add_special_tokens=False)
        return [*prompt.before_ids, *prompt.prefix_ids(True), *said, *prompt.suffix_ids]

    @torch.no_grad()
    def _continue(self, rows: list[list[int]], seeds: list[int]) -> list[list[int]]:
        device: Any = self.llm.embedding.weight.device
        lengths = torch.tensor([len(ids) for ids in rows], device=device)
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids, device=device) for ids in rows], batch_first=True)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        cache = self.llm.new_cache(len(rows), padded.shape[1] + self.config.max_new_tokens)
        hidden_states, cache = self.llm(self.llm.embed(padded), cache, lengths)
        newest = hidden_states[torch.arange(len(rows), device=device), lengths - 1]
        said: list[list[int]] = [[] for _ in rows]
        active = torch.ones_like(lengths)
        ends = torch.tensor(self.llm.eos_ids, device=device)
        for _ in range(self.config.max_new_tokens):
            logits = self.llm.logits(newest)
            ids = sample(logits, self.sampling, generator=generators)
            active = active * (~torch.isin(ids, ends))
            if not active.any():
                break
            for row in active.nonzero().flatten().tolist():
                said[row].append(int(ids[row]))
            hidden_states, cache = self.llm(self.llm.embed(ids[:, None]), cache, active)
            newest = hidden_states[:, 0]
        return said

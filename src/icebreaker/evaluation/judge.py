"""A language model as judge of replies, behind any OpenAI-compatible endpoint. Knows nothing of speech or systems.

Content and style from 1 to 5, as in LLaMA-Omni (arXiv:2409.06666v1, evaluation); the wording of the request is ours.
A judge that times out, refuses or answers nonsense is asked again, then the reply counts as unscored, never as a score.
"""

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Protocol

from icebreaker.errors import ConfigError

__all__ = ["Judge", "OpenAIJudge", "Verdict", "parse"]

LOWEST, HIGHEST = 1.0, 5.0
OBJECT = re.compile(r"\{[^{}]*\}")
HOPELESS = (400, 401, 403, 404, 405, 422)  # asking again changes nothing: it is how we ask
LONGEST_WAIT_S = 60.0
REQUEST = """You judge a voice assistant: a user said the instruction, it replied. Give two marks from 1 to 5:
content: does the reply do what was asked: right, relevant, complete, and without needless detail?
style: does it suit being spoken: of fitting length, clear, fluent, without lists, symbols or anything one cannot say?
Answer with nothing but a JSON object such as {"content": 3, "style": 4}.

Instruction: %s
Reply: %s"""


@dataclass(frozen=True)
class Verdict:
    """Marks from 1 to 5, or ``None`` and the reason why there are none."""

    content: float | None = None
    style: float | None = None
    reason: str = ""

    @property
    def scored(self) -> bool:
        """Whether there are marks."""
        return self.content is not None and self.style is not None


class Judge(Protocol):
    """Marks replies."""

    name: str

    def mark(self, instruction: str, reply: str) -> Verdict:
        """How well ``reply`` follows ``instruction``."""


@dataclass
class OpenAIJudge:
    """A model behind ``<url>/chat/completions``.

    Attributes:
        url: such as ``https://api.openai.com/v1`` or ``http://localhost:8000/v1``.
        name: of the model.
        api_key: sent as a bearer token.
        tries: at most so many requests a reply.
        timeout_s: for each.
        first_wait_s: before the second; each further wait is twice as long.
    """

    url: str
    name: str
    api_key: str | None = field(default=None, repr=False)
    tries: int = 4
    timeout_s: float = 60.0
    first_wait_s: float = 1.0

    def mark(self, instruction: str, reply: str) -> Verdict:
        """See ``Judge``.

        Raises:
            ConfigError: the endpoint rejects the request itself (wrong address, key or model).
        """
        reason = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(min(LONGEST_WAIT_S, self.first_wait_s * 2 ** (attempt - 1)))
            try:
                answer = self._ask(REQUEST % (instruction, reply))
            except urllib.error.HTTPError as error:
                if error.code in HOPELESS:
                    said = error.read()[:200].decode(errors="replace").strip()
                    raise ConfigError(f"{self.url}: the judge rejects our request: {error.code} {said}") from error
                reason = f"status {error.code}"
            except (OSError, ValueError, KeyError, IndexError, TypeError, http.client.HTTPException) as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                verdict = parse(answer)
                if verdict.scored:
                    return verdict
                reason = verdict.reason
        return Verdict(reason=reason)

    def _ask(self, request: str) -> str:
        body = {"model": self.name, "temperature": 0, "messages": [{"role": "user", "content": request}]}
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url = f"{self.url.rstrip('/')}/chat/completions"
        asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=self.timeout_s) as response:
            message: dict[str, Any] = json.load(response)["choices"][0]["message"]
        return str(message.get("content") or message.get("refusal") or "")


def parse(answer: str) -> Verdict:
    """The marks in the judge's answer, which may be wrapped in prose; unscored where there are none from 1 to 5."""
    for found in OBJECT.findall(answer):
        try:
            values = json.loads(found)
            marks = [float(values["content"]), float(values["style"])]
        except (ValueError, KeyError, TypeError):
            continue
        if all(LOWEST <= mark <= HIGHEST for mark in marks):
            return Verdict(content=marks[0], style=marks[1])
    return Verdict(reason=f"no marks from 1 to 5 in {answer[:100]!r}")

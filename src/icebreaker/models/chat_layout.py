"""A whole conversation as an LLM reads it: the chat template's ids, with holes for what is not text.

``ChatPrompt`` cuts the template around one spoken turn. This lays out any conversation (system, written and spoken
messages, function calls and their results) by rendering the template once with a mark for every hole, so whatever the
template does with a conversation, it does here. Knows nothing of what goes into the holes.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from jinja2 import TemplateError

from icebreaker.errors import CheckpointError

__all__ = ["ChatLayout", "FunctionCall", "Message"]

MAX_KNOWN_PIECES = 512  # whose ids are remembered


@dataclass(frozen=True)
class FunctionCall:
    """A call of a function by the assistant; ``arguments`` is JSON."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One message; ``content`` is text and, where something else stands, the number of a hole (0 or more)."""

    role: Literal["system", "user", "assistant", "tool"]
    content: tuple[str | int, ...] = ()
    calls: tuple[FunctionCall, ...] = ()
    call_id: str = ""  # of a tool's message: what it answers


class ChatLayout:
    """Lays out conversations by the rule of a ``ChatPrompt``: the chat template of the tokenizer, or what the official
    checkpoints were trained with (``official``: ChatML; ``llama-omni``: Llama 3, with two begin-of-text ids).
    """

    def __init__(self, tokenizer: Any, rule: str = "template") -> None:
        self.tokenizer, self.rule = tokenizer, rule
        self._known: dict[str, tuple[int, ...]] = {}

    def knows_tools(self) -> bool:
        """Whether the template tells the LLM of functions that it may call."""
        name = f"f{uuid.uuid4().hex}"
        tool = {"type": "function", "function": {"name": name, "description": "", "parameters": {}}}
        try:
            return self.rule == "template" and name in self._render([Message("user", ("hello",))], [tool], "")
        except (TemplateError, CheckpointError):
            return False

    def pieces(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[tuple[int, ...] | int]:
        """The ids of ``messages`` and of the assistant's turn that follows, in order, with the holes' numbers between.

        Neighbouring messages of the same speaker become one. A template that knows no system role gets that text in
        front of the user's.

        Raises:
            CheckpointError: the template refuses the conversation, or does not show every part of it.
        """
        messages = _joined(messages)
        mark = uuid.uuid4().hex
        holes = [part for message in messages for part in message.content if isinstance(part, int)]
        problem: Exception | None = None
        for attempt in (messages, _folded(messages), _alternating(_folded(messages))):
            try:
                text = self._render(attempt, tools, mark)
            except TemplateError as error:
                problem = error
                continue
            first, *after = text.split(f"{mark}h")  # no pattern: Python would compile one for every new mark
            parts = [first, *(part for each in after for part in each.split("e", 1))]
            said = [s.content[0] for s in attempt[:1] if s.role == "system" and isinstance(s.content[0], str)]
            if [int(number) for number in parts[1::2]] == holes and all(s.strip() in text for s in said):
                return self._split(parts)
        raise CheckpointError(f"the chat template does not take this conversation: {problem or 'it hides parts of it'}")

    def _split(self, parts: Sequence[str]) -> list[tuple[int, ...] | int]:
        pieces: list[tuple[int, ...] | int] = []
        for index, part in enumerate(parts):
            if index % 2:
                pieces.append(int(part))
            elif part:
                pieces.append(self._ids(part))
        return pieces

    def _ids(self, text: str) -> tuple[int, ...]:
        if text not in self._known:
            if len(self._known) >= MAX_KNOWN_PIECES:
                self._known.clear()
            self._known[text] = tuple(self.tokenizer.encode(text, add_special_tokens=False))
        return self._known[text]

    def _render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], mark: str) -> str:
        plain = [_plain(message, mark) for message in messages]
        if self.rule == "official":
            turns = "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in plain)
            return f"{turns}<|im_start|>assistant\n"
        if self.rule == "llama-omni":
            turns = "".join(f"{_llama_header(each['role'])}{each['content']}<|eot_id|>" for each in plain)
            return f"<|begin_of_text|><|begin_of_text|>{turns}{_llama_header('assistant')}"
        if not getattr(self.tokenizer, "chat_template", None):
            raise CheckpointError("the tokenizer has no chat template; use an instruction-tuned LLM")
        return str(
            self.tokenizer.apply_chat_template(
                plain, tools=list(tools) or None, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )


def _llama_header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


def _plain(message: Message, mark: str) -> dict[str, Any]:
    """As templates expect it."""
    content = "".join(part if isinstance(part, str) else f"{mark}h{part}e" for part in message.content)
    plain: dict[str, Any] = {"role": message.role, "content": content}
    if message.calls:
        plain["tool_calls"] = [
            {"type": "function", "id": call.call_id,
             "function": {"name": call.name, "arguments": _arguments(call.arguments)}}
            for call in message.calls
        ]  # fmt: skip
    if message.role == "tool":
        plain["tool_call_id"] = message.call_id
    return plain


def _arguments(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError:
        return {"arguments": text}


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of the same role in one message; a spoken part is set off from what stands before it by a space."""
    joined: list[Message] = []
    for message in messages:
        before = joined[-1] if joined else None
        if before is not None and before.role == message.role != "tool":
            space = (" ",) if before.content and message.content else ()
            content = (*before.content, *space, *message.content)
            joined[-1] = replace(before, content=content, calls=before.calls + message.calls)
        else:
            joined.append(message)
    return joined


def _folded(messages: Sequence[Message]) -> list[Message]:
    """System texts in front of the user's next one."""
    folded: list[Message] = []
    waiting: tuple[str | int, ...] = ()
    for message in messages:
        if message.role == "system":
            waiting = (*waiting, *message.content, "\n\n")
        elif message.role == "user":
            folded.append(replace(message, content=(*waiting, *message.content)))
            waiting = ()
        else:
            folded.append(message)
    return _joined([*folded, Message("user", waiting[:-1])] if waiting else folded)


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """The user first and last, for templates that insist: with an empty message where there is none."""
    result = list(messages)
    if not result or result[0].role == "assistant":
        result.insert(0, Message("user", ("",)))
    if result[-1].role == "assistant":
        result.append(Message("user", ("",)))
    return result

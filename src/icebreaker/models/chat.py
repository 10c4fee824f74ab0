"""What stands around the speech in a chat: the tokenizer's own template, cut open. Knows nothing of models or audio."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from jinja2 import TemplateError

from icebreaker.errors import CheckpointError

__all__ = ["DEFAULT_SYSTEM", "OMNI_SYSTEM", "ChatPrompt"]

DEFAULT_SYSTEM = "You are a helpful assistant."
OMNI_SYSTEM = (  # of the official LLaMA-Omni
    "You are a helpful language and speech assistant. You are able to understand the speech content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
OMNI_INSTRUCTION = "\nPlease directly answer the questions in the user's speech."
OMNI_MARKS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@dataclass(frozen=True)
class ChatPrompt:
    """Token ids around the user's speech and the answers.

    A whole conversation is ``before``, then for every turn ``prefix_ids(first)``, the speech, ``suffix``, the answer's
    tokens. The id that ends an answer is not fed when it is drawn: ``prefix_ids`` of the next turn begins with it, so
    that an answer that was cut short is closed just like one that came to its end.
    """

    before_ids: tuple[int, ...]  # once, at the start of a session: the system prompt
    user_prefix_ids: tuple[int, ...]  # before the speech of every turn
    suffix_ids: tuple[int, ...]  # after the speech: the user's turn ends, the assistant's begins
    end_ids: tuple[int, ...]  # between an answer and the next ``user_prefix_ids``
    rule: Literal["template", "official", "llama-omni"] = "template"  # how it was cut
    instruction: str = ""  # text after the speech, in front of what ``suffix_ids`` were

    def prefix_ids(self, first: bool) -> tuple[int, ...]:
        """What comes right before the speech of a session's first turn, or of a later one."""
        return self.user_prefix_ids if first else self.end_ids + self.user_prefix_ids

    def with_system(self, tokenizer: Any, system: str) -> Self:
        """The same cut of the template, with another system prompt."""
        kind = type(self)
        makers = {"official": kind.official, "llama-omni": kind.llama_omni, "template": kind.from_tokenizer}
        return makers[self.rule](tokenizer, system).with_instruction(tokenizer, self.instruction)

    def with_instruction(self, tokenizer: Any, text: str) -> Self:
        """The same, with ``text`` between the speech and the end of the user's turn."""
        ids = tuple(tokenizer.encode(text, add_special_tokens=False)) if text else ()
        return replace(self, suffix_ids=ids + self.suffix_ids, instruction=text)

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, system: str | None = DEFAULT_SYSTEM) -> Self:
        """Cut the tokenizer's own chat template where the speech and the answer go.

        A template that knows no system role gets the system text in front of the first user text.

        Args:
            tokenizer: with a chat template.
            system: the system prompt; None leaves it to the template, which may have a default.

        Raises:
            CheckpointError: there is no template, or it does not show the texts it is given.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise CheckpointError(
                "the tokenizer has no chat template; use an instruction-tuned LLM, or official ChatML"
            )
        speech, answer, later = (f"{name}{uuid.uuid4().hex}" for name in ("speech", "answer", "later"))
        head, between, suffix = _cut(_render(tokenizer, system, speech, answer, later), speech, answer, later)
        encode = tokenizer.encode
        first = encode(head, add_special_tokens=False)
        again = encode(between, add_special_tokens=False)
        shared = _shared_end(first, again)
        return cls(
            before_ids=tuple(first[: len(first) - shared]),
            user_prefix_ids=tuple(first[len(first) - shared :]),
            suffix_ids=tuple(encode(suffix, add_special_tokens=False)),
            end_ids=tuple(again[: len(again) - shared]),
        )

    @classmethod
    def official(cls, tokenizer: Any, system: str = DEFAULT_SYSTEM) -> Self:
        """The ChatML of the official checkpoints, cut as the official implementation cuts it.

        Raises:
            CheckpointError: the tokenizer has no ``<|im_start|>`` and ``<|im_end|>``.
        """
        known = tokenizer.get_vocab()
        if absent := [token for token in ("<|im_start|>", "<|im_end|>") if token not in known]:
            raise CheckpointError(f"the tokenizer has no {absent[0]}: it is no ChatML model; use its own chat template")

        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False))

        return cls(
            before_ids=encode(f"<|im_start|>system\n{system}"),
            user_prefix_ids=(known["<|im_end|>"], *encode("\n<|im_start|>user\n")),
            suffix_ids=encode("<|im_end|>\n<|im_start|>assistant\n"),
            end_ids=(),
            rule="official",
        )

    @classmethod
    def llama_omni(cls, tokenizer: Any, system: str = OMNI_SYSTEM) -> Self:
        """The Llama 3 chat of the official LLaMA-Omni, cut around the speech (arXiv:2409.06666v2, section 3.3).

        It begins with two begin-of-text ids: its prompt spells the first, and its tokenisation adds another. The
        checkpoints were trained so.

        Raises:
            CheckpointError: the tokenizer lacks Llama 3's marks.
        """
        known = tokenizer.get_vocab()
        if absent := [mark for mark in OMNI_MARKS if mark not in known]:
            raise CheckpointError(f"the tokenizer has no {absent[0]}: it is no Llama 3; use its own chat template")

        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer.encode(text, add_special_tokens=False))

        begin, _, _, end = OMNI_MARKS
        return cls(
            before_ids=encode(f"{begin}{begin}{_header('system')}{system}{end}"),
            user_prefix_ids=encode(_header("user")),
            suffix_ids=encode(f"{OMNI_INSTRUCTION}{end}{_header('assistant')}"),
            end_ids=encode(end),
            rule="llama-omni",
        )


def _header(role: str) -> str:
    return f"{OMNI_MARKS[1]}{role}{OMNI_MARKS[2]}\n\n"


def _render(tokenizer: Any, system: str | None, speech: str, answer: str, later: str) -> str:
    turns = [("user", speech), ("assistant", answer), ("user", later)]
    if system is None:
        return _template(tokenizer, turns)
    try:
        text = _template(tokenizer, [("system", system), *turns])
    except TemplateError:  # "System role not supported"
        text = ""
    if system.strip() in text:
        return text
    return _template(tokenizer, [("user", f"{system}\n\n{speech}"), *turns[1:]])


def _template(tokenizer: Any, turns: Sequence[tuple[str, str]]) -> str:
    messages: list[Mapping[str, str]] = [{"role": role, "content": content} for role, content in turns]
    try:
        # Templates of reasoning models open a thought unless told not to; the others ignore the argument.
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )
    except TemplateError as error:
        if messages[0]["role"] == "system":
            raise
        raise CheckpointError(f"the tokenizer's chat template refuses a plain conversation: {error}") from error


def _cut(text: str, speech: str, answer: str, later: str) -> tuple[str, str, str]:
    """What stands before the speech, between an answer and the next speech, and after the last speech."""
    pieces = []
    for mark in (speech, answer, later):
        head, found, text = text.partition(mark)
        if not found:
            raise CheckpointError("the tokenizer's chat template does not show each text once, in order")
        pieces.append(head)
    return pieces[0], pieces[2], text


def _shared_end(a: Sequence[int], b: Sequence[int]) -> int:
    shared = 0
    while shared < min(len(a), len(b)) and a[-1 - shared] == b[-1 - shared]:
        shared += 1
    return shared

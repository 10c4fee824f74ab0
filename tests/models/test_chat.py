import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_llm import CHATML, tiny_tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from icebreaker.errors import CheckpointError
from icebreaker.models.chat import ChatPrompt

GOLDEN = Path(__file__).parent.parent / "golden" / "freeze-omni-tiny"
LLAMA = (
    "{{ '<s>' }}{% for m in messages %}[{{ m['role'] }}]\n\n{{ m['content'] | trim }}</t>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
)
GEMMA = (  # no system role
    "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end>\n{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}"
)
DEAF = CHATML.replace("{% for message in messages %}", "{% for message in messages if message['role'] != 'system' %}")


def conversation(tokenizer: PreTrainedTokenizerFast, prompt: ChatPrompt) -> str:
    """Two turns as a session would feed them, the texts standing for speech and answers."""
    ids = [*prompt.before_ids]
    for turn, (heard, said) in enumerate([("hello there", "hi"), ("and you", "")]):
        ids += [*prompt.prefix_ids(first=turn == 0), *tokenizer.encode(heard), *prompt.suffix_ids]
        ids += tokenizer.encode(said)
    return tokenizer.decode(ids)


@pytest.mark.parametrize("template", [CHATML, LLAMA, GEMMA, DEAF], ids=["chatml", "llama", "gemma", "deaf"])
@pytest.mark.parametrize("system", ["Be brief.", None])
def test_session_reads_like_the_template(template: str, system: str | None) -> None:
    tokenizer = tiny_tokenizer(template)
    prompt = ChatPrompt.from_tokenizer(tokenizer, system)
    turns = [("user", "hello there"), ("assistant", "hi"), ("user", "and you")]
    if system and template in (GEMMA, DEAF):
        turns[0] = ("user", "Be brief.\n\nhello there")
    elif system:
        turns.insert(0, ("system", system))
    messages = [{"role": role, "content": content} for role, content in turns]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert conversation(tokenizer, prompt) == expected


def test_an_answer_cut_short_is_closed_by_the_next_turn() -> None:
    tokenizer = tiny_tokenizer()
    for prompt in (ChatPrompt.from_tokenizer(tokenizer), ChatPrompt.official(tokenizer)):
        assert tokenizer.decode(prompt.prefix_ids(first=False)).startswith("<|im_end|>\n<|im_start|>user\n")


def test_official_ids() -> None:
    golden = np.load(GOLDEN / "expected" / "llm_turn.npz")
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "llm", local_files_only=True)
    prompt = ChatPrompt.official(tokenizer)
    assert list(prompt.before_ids) == golden["role_ids"].tolist() == golden["default_role_ids"].tolist()
    assert list(prompt.user_prefix_ids) == golden["prefix_ids"].tolist()
    assert list(prompt.suffix_ids) == golden["suffix_ids"].tolist()
    assert prompt.end_ids == ()


def test_chatml_template_is_cut_like_the_official_one() -> None:
    tokenizer = tiny_tokenizer()
    ours, official = ChatPrompt.from_tokenizer(tokenizer, "Be brief."), ChatPrompt.official(tokenizer, "Be brief.")
    assert dataclasses.replace(ours, rule="official") == official


def test_tokenizers_that_cannot_serve() -> None:
    with pytest.raises(CheckpointError, match="no chat template"):
        ChatPrompt.from_tokenizer(tiny_tokenizer(""))
    with pytest.raises(CheckpointError, match="does not show each text once"):
        ChatPrompt.from_tokenizer(tiny_tokenizer("{{ messages[0]['content'] }}"))
    with pytest.raises(CheckpointError, match="refuses a plain conversation: no chat today"):
        ChatPrompt.from_tokenizer(tiny_tokenizer("{{ raise_exception('no chat today') }}"))
    plain = tiny_tokenizer()
    plain.get_vocab = dict  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match=r"no <\|im_start\|>"):
        ChatPrompt.official(plain)

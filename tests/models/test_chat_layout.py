"""Whole conversations by the chat template: the same ids as the cut around one spoken turn, whatever stands in it."""

import pytest
from tiny_llm import tiny_tokenizer

from icebreaker.errors import CheckpointError
from icebreaker.models.chat import ChatPrompt
from icebreaker.models.chat_layout import ChatLayout, FunctionCall, Message

STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}{% endif %}"
    "[{{ m['role'] }}]{{ m['content'] | trim }}{% endfor %}{% if add_generation_prompt %}[answer]{% endif %}"
)
HIDING = "{% for m in messages %}{% if not loop.first %}{{ m['content'] }}{% endif %}{% endfor %}"


def shown(layout: ChatLayout, messages: list[Message]) -> str:
    pieces = layout.pieces(messages)
    return "".join(f"<{p}>" if isinstance(p, int) else layout.tokenizer.decode(p) for p in pieces)


@pytest.mark.parametrize("rule", ["template", "official"])
def test_two_spoken_turns_are_those_of_the_cut(rule: str) -> None:
    tokenizer = tiny_tokenizer()
    cut = (
        ChatPrompt.official(tokenizer, "Be kind.")
        if rule == "official"
        else ChatPrompt.from_tokenizer(tokenizer, "Be kind.")
    )
    messages = [
        Message("system", ("Be kind.",)),
        Message("user", (0,)),
        Message("assistant", (1,)),
        Message("user", (2,)),
    ]
    first, speech, middle, answer, last, again, end = ChatLayout(tokenizer, rule).pieces(messages)
    assert (speech, answer, again) == (0, 1, 2)
    assert first == cut.before_ids + cut.prefix_ids(first=True)
    assert middle == end == cut.suffix_ids
    assert last == cut.prefix_ids(first=False)


def test_neighbours_of_one_speaker_are_joined() -> None:
    layout = ChatLayout(tiny_tokenizer())
    text = shown(layout, [Message("user", ("Hi.",)), Message("user", (0,)), Message("user", (1,))])
    assert text == "<|im_start|>user\nHi. <0> <1><|im_end|>\n<|im_start|>assistant\n"


def test_a_strict_template_gets_what_it_insists_on() -> None:
    layout = ChatLayout(tiny_tokenizer(STRICT))
    system = Message("system", ("Be kind.",))
    assert shown(layout, [system, Message("user", (0,))]) == "[user]Be kind.\n\n<0>[answer]"
    late = [Message("user", (0,)), Message("assistant", (1,)), system, Message("user", (2,))]
    assert shown(layout, late) == "[user]<0>[assistant]<1>[user]Be kind.\n\n<2>[answer]"
    assert shown(layout, [Message("assistant", (0,))]) == "[user][assistant]<0>[user][answer]"
    assert not layout.knows_tools()


def test_functions_reach_a_template_that_knows_them() -> None:
    template = (
        "{{ tools | tojson if tools else '' }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
        "{% for c in m.get('tool_calls', []) %}{{ c['function'] | tojson }}{% endfor %}{% endfor %}"
    )
    layout = ChatLayout(tiny_tokenizer(template))
    assert layout.knows_tools()
    call = Message("assistant", ("Wait.",), (FunctionCall("c", "clock", '{"zone": "UTC"}'),))
    output = Message("tool", ("noon",), call_id="c")
    text = shown(layout, [Message("user", (0,)), call, output])
    assert text == '[user]<0>[assistant]Wait.{"name": "clock", "arguments": {"zone": "UTC"}}[tool]noon'


def test_a_template_that_hides_something_is_named() -> None:
    with pytest.raises(CheckpointError, match="hides parts"):
        ChatLayout(tiny_tokenizer(HIDING)).pieces([Message("user", (0,)), Message("assistant", (1,))])


def test_llama_omni() -> None:
    text = ChatLayout(tiny_tokenizer(), "llama-omni")._render([Message("user", ("Hi.",))], [], "x")
    header = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    assert text == f"<|begin_of_text|><|begin_of_text|>{header('user')}Hi.<|eot_id|>{header('assistant')}"

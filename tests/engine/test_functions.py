"""Calls written by an LLM: what is spoken of them (nothing), and what is read."""

from itertools import pairwise

import pytest

from icebreaker.engine.functions import aloud, declared, forced_start, parse
from icebreaker.engine.messages import Tool

HERMES = 'Let me see. <tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'
TWO = '<tool_call>{"name": "a", "arguments": {}}</tool_call>\n'
TWO += '<tool_call>{"name": "b", "arguments": "{\\"x\\": 1}"}</tool_call>'
LLAMA = '<|python_tag|>{"name": "clock", "parameters": {"zone": "UTC"}}'


@pytest.mark.parametrize("text", [HERMES, TWO, LLAMA, "Just words < more.", "a <tool", '{"name": "x"}'])
def test_what_is_aloud_only_grows_and_holds_no_call(text: str) -> None:
    said = [aloud(text[:stop]) for stop in range(len(text) + 1)]
    assert all(after.startswith(before) for before, after in pairwise(said))
    assert "tool_call" not in said[-1]
    assert "name" not in said[-1]


def test_calls_are_read() -> None:
    head, calls = parse(HERMES)
    assert (head, calls) == ("Let me see. ", [("clock", '{"zone": "UTC"}')])
    assert parse(TWO) == ("", [("a", "{}"), ("b", '{"x": 1}')])
    assert parse(LLAMA) == ("", [("clock", '{"zone": "UTC"}')])
    assert parse("It is noon.") == ("It is noon.", [])


def test_a_broken_call_is_named() -> None:
    with pytest.raises(ValueError, match="the LLM wrote"):
        parse('<tool_call>{"name": "clock", "argum')


def test_a_forced_call_is_read_with_its_start() -> None:
    start = forced_start("clock", "... <tool_call> ...")
    assert parse(start + '{"zone": "UTC"}}</tool_call>') == ("", [("clock", '{"zone": "UTC"}')])
    assert parse(forced_start("clock", "{{ llama }}") + "{}}") == ("", [("clock", "{}")])
    assert parse(forced_start("required", "") + 'clock", "parameters": {}}') == ("", [("clock", "{}")])
    assert forced_start("auto", "<tool_call>") == ""


def test_declared() -> None:
    (tool,) = declared([Tool(name="clock", description="Time.", parameters={"type": "object"})])
    expected = {"name": "clock", "description": "Time.", "parameters": {"type": "object"}}
    assert tool == {"type": "function", "function": expected}

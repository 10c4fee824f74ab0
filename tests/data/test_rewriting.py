import pytest

from icebreaker.data.rewriting import Wanted, answer_prompt, question_prompt, take

WANTED = Wanted("question", 12)


@pytest.mark.parametrize(
    ("reply", "text", "reason"),
    [
        ('{"question": "Um, what is 2 times 3?"}', "Um, what is two times three?", None),
        ('Sure!\n```json\n{"question": "Who is it?"}\n```', "Who is it?", None),
        ('{"question": "Who\nis it?"} Hope this helps.', "Who is it?", None),
        ("Who is it?", None, "no json"),
        ('{"response": "Who is it?"}', None, "no json"),
        ('{"question": ["Who?"]}', None, "no json"),
        ('{"question": "Who is', None, "no json"),
        ('{"question": ""}', None, "empty"),
        ('{"question": "See www.example.org"}', None, "url"),
        ('{"question": "' + "is it so " * 3 + '"}', None, "repetitive"),
        ('{"question": "' + " ".join(f"to {c}" for c in "abcdefgh") + '"}', None, "too long"),
    ],
)
def test_what_is_taken_of_a_reply(reply: str, text: str | None, reason: str | None) -> None:
    assert take(reply, WANTED, plain=False) == (text, reason)


def test_plain_replies_where_they_are_allowed() -> None:
    assert take("Who is it? ", WANTED, plain=True) == ("Who is it?", None)
    assert take('{"question": "Who', WANTED, plain=True) == (None, "no json")


def test_prompts_hold_the_text_and_ask_for_the_field() -> None:
    assert question_prompt("Do it.")[1].endswith("Do it.")
    assert '{"question": "..."}' in question_prompt("Do it.")[1]
    assert '{"response": "..."}' in answer_prompt("Why?")[1]

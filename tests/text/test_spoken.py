import pytest

from icebreaker.text.spoken import spoken_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world.", "Hello, world."),
        (" and more", " and more"),
        ("**Bold** and _thin_ and `code`.", "Bold and thin and code."),
        ("# Title\n- one\n- two", " Title one two"),
        ("See [the map](http://x.y/z) now", "See the map now"),
        ("snake_case stays, 3.14 too", "snake_case stays, 3.14 too"),
        ("broken \ufffd\ufffd bytes", "broken bytes"),
        ("你好，世界。", "你好，世界。"),
        ("!?", ""),
        ("***", ""),
        ("", ""),
    ],
)
def test_markup_goes_and_words_stay(text: str, expected: str) -> None:
    assert spoken_text(text) == expected

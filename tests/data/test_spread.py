import sys

import pytest

from icebreaker.data.spread import here, on_ray
from icebreaker.errors import ConfigError


def test_here_is_threads_of_this_process() -> None:
    assert list(here(lambda number: number * number, range(10), 3)) == [n * n for n in range(10)]


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'icebreaker-speech\[dist\]'"):
        on_ray()

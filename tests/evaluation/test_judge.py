"""A real judge over HTTP, whose manners a test chooses."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from icebreaker.errors import ConfigError
from icebreaker.evaluation.judge import OpenAIJudge, Verdict, parse


class LocalJudge:
    """Answers one reply after the other: text, an HTTP status, or seconds of silence; then the last for ever."""

    def __init__(self) -> None:
        self.replies: list[str | int | float] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        judge = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                judge.keys.append(self.headers.get("Authorization"))
                judge.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                reply = judge.replies.pop(0) if len(judge.replies) > 1 else judge.replies[0]
                if isinstance(reply, float):
                    time.sleep(reply)
                    return
                self.send_response(reply if isinstance(reply, int) else 200)
                self.end_headers()
                message = {"role": "assistant", "content": reply}
                self.wfile.write(json.dumps({"choices": [{"message": message}]}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def judge(self, **options: Any) -> OpenAIJudge:
        return OpenAIJudge(self.url, "judge-1", first_wait_s=0.01, timeout_s=0.3, **options)


@pytest.fixture
def local() -> Iterator[LocalJudge]:
    judge = LocalJudge()
    thread = threading.Thread(target=judge.server.serve_forever, args=(0.02,))
    thread.start()
    yield judge
    judge.server.shutdown()
    thread.join()
    judge.server.server_close()


def test_marks_come_back(local: LocalJudge) -> None:
    local.replies = ['Here you are: {"content": 4, "style": 3.5}']
    assert local.judge(api_key="k").mark("Name a fruit.", "An apple.") == Verdict(content=4.0, style=3.5)
    (asked,) = local.asked
    assert asked["model"] == "judge-1"
    assert "Instruction: Name a fruit.\nReply: An apple." in asked["messages"][0]["content"]
    assert local.keys == ["Bearer k"]
    assert "secret" not in repr(local.judge(api_key="secret"))


@pytest.mark.parametrize("trouble", ["I'd rather not say.", '{"content": 9, "style": 3}', 503, 429, 0.6])
def test_trouble_is_asked_again(local: LocalJudge, trouble: str | int | float) -> None:
    local.replies = [trouble, trouble, '{"content": 5, "style": 1}']
    assert local.judge().mark("a", "b") == Verdict(content=5.0, style=1.0)
    assert len(local.asked) == 3


@pytest.mark.parametrize(
    ("trouble", "reason"), [("I cannot help with that.", "no marks"), (500, "status 500"), (0.6, "timed out|Timeout")]
)
def test_lasting_trouble_is_unscored_never_a_score(local: LocalJudge, trouble: str | int | float, reason: str) -> None:
    local.replies = [trouble]
    verdict = local.judge(tries=2).mark("a", "b")
    assert (verdict.scored, verdict.content, verdict.style) == (False, None, None)
    assert any(part in verdict.reason for part in reason.split("|"))
    assert len(local.asked) == 2


def test_a_wrong_key_is_no_matter_of_patience(local: LocalJudge) -> None:
    local.replies = [401]
    with pytest.raises(ConfigError, match="rejects our request: 401"):
        local.judge().mark("a", "b")
    assert len(local.asked) == 1


def test_nobody_there() -> None:
    verdict = OpenAIJudge("http://127.0.0.1:9/v1", "j", tries=2, first_wait_s=0.01).mark("a", "b")
    assert not verdict.scored
    assert "refused" in verdict.reason


@pytest.mark.parametrize(
    ("answer", "marks"),
    [
        ('{"style": 2, "content": "3"}', (3.0, 2.0)),
        ('```json\n{"content": 1, "style": 5}\n```', (1.0, 5.0)),
        ('{"content": 0, "style": 3} or rather {"content": 1, "style": 3}', (1.0, 3.0)),
        ('{"content": 4}', (None, None)),
        ('{"content": NaN, "style": 3}', (None, None)),
        ("4 and 5", (None, None)),
        ("", (None, None)),
    ],
)
def test_parse(answer: str, marks: tuple[float | None, float | None]) -> None:
    verdict = parse(answer)
    assert (verdict.content, verdict.style) == marks
    assert bool(verdict.reason) is not verdict.scored

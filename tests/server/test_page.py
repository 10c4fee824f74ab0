import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile
from starlette.applications import Starlette
from starlette.testclient import TestClient

from icebreaker.server.page import STATIC, content_policy, page_routes


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()))


def test_the_page_and_all_it_names_are_there(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert {"static/app.js", "static/style.css", "static/icon.svg"} <= set(named)
    assert [name for name in named if client.get(f"/{name}").status_code != 200] == []


def test_every_module_finds_what_it_imports() -> None:
    for module in STATIC.rglob("*.js"):
        for name in re.findall(r'^import .* from "(.+)";$', module.read_text(), re.MULTILINE):
            assert (module.parent / name).is_file(), f"{module.name} imports {name}"


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in STATIC.rglob("*.*"):
        if path.suffix in (".html", ".css", ".js", ".svg"):
            addresses = set(re.findall(r"https?://[^\s\"'`<>)]+", path.read_text()))
            strange = {
                each
                for each in addresses
                if not each.startswith(("http://www.w3.org/2000/svg", "http://localhost$", "https://${"))
            }
            assert strange == set(), path


class Inline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.found += [f"<{tag} {name}>" for name in names if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(f"<{tag}>")


def test_the_policy_forbids_inline_scripts_and_the_page_has_none(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self';")
    inline = Inline()
    inline.feed(client.get("/").text)
    assert inline.found == []


@pytest.mark.parametrize(
    ("host", "sockets"),
    [
        ("talk.example:8443", "ws://talk.example:8443 wss://talk.example:8443"),
        ("[::1]:8000", "ws://[::1]:8000 wss://[::1]:8000"),
        ("evil; script-src *", None),
        ("evil *", None),
        ("", None),
    ],
)
def test_the_policy_names_the_sockets_of_a_sane_host_only(host: str, sockets: str | None) -> None:
    connect = next(rule for rule in content_policy(host).split("; ") if rule.startswith("connect-src"))
    assert connect == ("connect-src 'self'" if sockets is None else f"connect-src 'self' {sockets}")
    assert "*" not in content_policy(host)


@pytest.mark.parametrize("path", ["/", "/static/style.css", "/static/app.js"])
def test_every_file_carries_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["permissions-policy"].startswith("microphone=(self)")
    assert "script-src 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/static/no-such-file", "/static/%2e%2e/page.py", "/static/..%2fpage.py"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_an_unchanged_file_is_not_sent_twice(client: TestClient) -> None:
    first = client.get("/static/app.js")
    again = client.get("/static/app.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_recorded_questions_are_short_and_small(client: TestClient) -> None:
    questions = client.get("/static/questions/questions.json").json()
    assert len(questions) >= 4
    for question in questions:
        path = STATIC / "questions" / question["file"]
        with soundfile.SoundFile(path) as file:
            assert 0.8 <= file.frames / file.samplerate <= 4.0
        assert path.stat().st_size < 60_000
        assert question["text"].endswith("?")


def test_the_page_is_light(client: TestClient) -> None:
    files = [path for path in Path(STATIC).rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    assert sum(path.stat().st_size for path in files) < 120_000

import socket
import threading
from collections.abc import Iterator

import pytest
from browser import FAKE, REFUSING, WITHOUT_DEVICE, chromium, needs_browser, opened, until, until_turn
from playwright.sync_api import Browser, Page
from served import Served, serving

from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.server.config import ServerConfig
from icebreaker.server.page import STATIC

pytestmark = needs_browser

FOREIGN = "talk.example"  # a name that is not this machine, and so no secure origin without TLS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(flags=(*FAKE, f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1")) as running:
        yield running


def ask(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.keyboard.press("Enter")


@pytest.mark.parametrize(
    ("flags", "title"),
    [(REFUSING, "The microphone is blocked"), (WITHOUT_DEVICE, "No microphone was found")],
    ids=["refused", "no device"],
)
def test_without_a_microphone_the_page_says_why_and_goes_on_in_writing(flags: tuple[str, ...], title: str) -> None:
    with (
        serving(ScriptedEngine, static=STATIC) as served,
        chromium(flags=flags) as browser,
        opened(browser, served.http) as page,
    ):
        page.click("#talk")
        until(page, title, "#notice")
        assert page.get_attribute("#notice", "role") == "alert"
        assert page.is_visible("#notice-retry")
        until_turn(page, "off")
        ask(page, "hello")
        until(page, "You said: hello", "#transcript")
        assert page.is_visible("#notice"), "still true"


def test_a_full_server_is_waited_for(browser: Browser) -> None:
    with (
        serving(lambda: ScriptedEngine(max_sessions=1), static=STATIC) as served,
        opened(browser, served.http) as page,
    ):
        with served.talk() as other:
            other.until("session.created")
            ask(page, "is there room?")
            until(page, "All places are taken", "#notice")
            until(page, "Connecting again", "#link-text")
        until(page, "You said: is there room?", "#transcript")
        page.wait_for_selector("#notice", state="hidden")


def test_a_key_is_asked_for_and_a_wrong_one_is_named(browser: Browser) -> None:
    with serving(ScriptedEngine, static=STATIC, api_keys=("secret",)) as served, opened(browser, served.http) as page:
        ask(page, "let me in")
        until(page, "The server asks for a key", "#notice")
        assert page.evaluate("document.activeElement.id") == "key"
        page.keyboard.type("guess")
        page.keyboard.press("Enter")
        until(page, "does not accept this key", "#notice")
        page.fill("#key", "secret")
        page.keyboard.press("Enter")
        until(page, "Connected", "#link-text")
        page.wait_for_selector("#notice", state="hidden")
        ask(page, "thank you")
        until(page, "You said: thank you", "#transcript")
        assert page.evaluate("JSON.stringify(localStorage)").count("secret") == 0, "the key stays in the tab"


def test_an_insecure_origin_is_named_with_its_remedy_and_answers_in_writing(browser: Browser) -> None:
    with (
        serving(ScriptedEngine, static=STATIC, origins=("*",)) as served,
        opened(browser, f"http://{FOREIGN}:{served.port}/") as page,
    ):
        until(page, "This address is not secure", "#notice")
        until(page, f"http://localhost:{served.port}", "#notice")
        until(page, "icebreaker serve --self-signed", "#notice")
        assert page.is_disabled("#talk")
        ask(page, "hello")
        until(page, "You said: hello", "#transcript")
        until(page, "Icebreaker: You said: hello", "#said")


class Running:
    """A server on a chosen port, which may stop before it is left."""

    def __init__(self, port: int = 0) -> None:
        self.served = Served(ScriptedEngine, ServerConfig(static=STATIC), None)
        self.thread = threading.Thread(target=self.served.run, daemon=True)
        if port:
            self.served.socket.close()
            self.served.socket = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> "Running":
        self.thread.start()
        assert self.served.ready.wait(10)
        return self

    def stop(self) -> None:
        if self.thread.is_alive():
            self.served.stop()
        self.thread.join(20)

    def __exit__(self, *error: object) -> None:
        self.stop()


def test_a_server_that_is_gone_is_found_again(browser: Browser) -> None:
    with Running() as first, opened(browser, f"http://127.0.0.1:{first.served.port}/") as page:
        ask(page, "before")
        until(page, "You said: before", "#transcript")
        first.stop()
        until(page, "The server does not answer", "#notice")
        with Running(first.served.port):
            until(page, "Connected again, to a new conversation", "#notice")
            ask(page, "after")
            until(page, "You said: after", "#transcript")
            assert "before" not in page.inner_text("#transcript"), "the new server never heard of it"


def test_words_said_before_the_connection_is_there_are_sent_when_it_is(browser: Browser) -> None:
    """The newest ten seconds of them, after what was asked before and around, in order."""
    with serving(ScriptedEngine, static=STATIC) as served, opened(browser, served.http) as page:
        sent = page.evaluate(
            """async () => {
              const { Realtime } = await import("/static/realtime.js");
              const sent = [], sockets = [];
              window.WebSocket = class {
                static OPEN = 1;
                constructor() { sockets.push(this); }
                readyState = 1;
                bufferedAmount = 0;
                send(text) { sent.push(JSON.parse(text)); }
                close() {}
              };
              const link = new Realtime({ onlink() {}, onevent() {} });
              const sound = (number) => link.send({ type: "input_audio_buffer.append", audio: String(number) });
              sound(-1);  // nobody has asked for a connection
              link.open({});
              link.send({ type: "session.update" });
              for (let i = 0; i < 600; i++) sound(i);
              link.send({ type: "response.create" });
              sockets[0].onmessage({ data: JSON.stringify({ type: "session.created", session: { id: "x" } }) });
              sound(600);
              return sent.map(({ type, audio }) => audio ?? type);
            }"""
        )
    assert sent == ["session.update", *map(str, range(100, 600)), "response.create", "600"]

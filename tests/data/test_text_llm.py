import time
from pathlib import Path

import pytest
import tiny_folder
from post_server import completion, serve
from starlette.responses import JSONResponse, Response

from icebreaker.data.http import Poster
from icebreaker.data.text_llm import Asked, EndpointLLM, FolderLLM, TextLLMConfig, load_text_llm
from icebreaker.errors import DataError
from icebreaker.models.llm import LLM


def asked(count: int) -> list[Asked]:
    return [Asked("You are kind.", f"Say {number}.", number) for number in range(count)]


def test_replies_of_an_endpoint_come_in_order() -> None:
    def handle(body: dict, number: int) -> Response:
        time.sleep(0.02 * (body["seed"] % 3 == 0))  # the first of every three is slow
        return completion(f"{body['messages'][1]['content']} {body['seed']}")

    with serve(handle) as (url, seen):
        config = TextLLMConfig(endpoint=f"{url}/v1/", model="m", workers=3, temperature=0.5, max_new_tokens=9)
        replies = list(load_text_llm(config).replies(asked(7)))
    assert replies == [f"Say {number}. {number}" for number in range(7)]
    assert seen[0]["_path"] == "/v1/chat/completions"
    assert {"model": "m", "temperature": 0.5, "max_tokens": 9}.items() <= seen[0].items()
    assert seen[0]["messages"][0] == {"role": "system", "content": "You are kind."}


def test_no_more_is_asked_than_is_waited_for() -> None:
    with serve(lambda body, number: completion("yes")) as (url, seen):
        replies = EndpointLLM(TextLLMConfig(endpoint=url, model="m", workers=2)).replies(asked(50))
        for _ in range(3):
            next(replies)
        replies.close()  # type: ignore[attr-defined]
    assert len(seen) <= 6


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LLM_KEY", "secret")
    with serve(lambda body, number: completion("yes")) as (url, seen):
        config = TextLLMConfig(endpoint=url, model="m", api_key_variable="TEST_LLM_KEY")
        assert list(EndpointLLM(config).replies(asked(1))) == ["yes"]
    assert seen[0]["_key"] == "Bearer secret"
    monkeypatch.delenv("TEST_LLM_KEY")
    with pytest.raises(DataError, match="TEST_LLM_KEY is not set"):
        EndpointLLM(config)


def test_refusals_are_told_apart_from_nonsense() -> None:
    config = TextLLMConfig(endpoint="unused", model="m", workers=1)

    def picky(body: dict, number: int) -> Response:
        return Response("too long", 400) if "1" in body["messages"][1]["content"] else completion("yes")

    with serve(picky) as (url, _):
        assert list(EndpointLLM(config, Poster(url)).replies(asked(3))) == ["yes", None, "yes"]
    with (
        serve(lambda body, number: JSONResponse({"error": "?"})) as (url, _),
        pytest.raises(DataError, match=r"not a chat completion.*OpenAI-compatible"),
    ):
        list(EndpointLLM(config, Poster(url)).replies(asked(1)))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM.load(tiny_folder.write_llm(tmp_path_factory.mktemp("llm")))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_local_reply_depends_on_its_prompt_and_seed_alone(llm: LLM, temperature: float) -> None:
    def reply(prompts: list[Asked], workers: int) -> list[str | None]:
        config = TextLLMConfig(folder="x", temperature=temperature, max_new_tokens=12, workers=workers)
        return list(FolderLLM(llm, config).replies(prompts))

    together = reply(asked(5), 5)
    assert together == reply(asked(5), 2)
    assert together[3] == reply(asked(5)[3:4], 1)[0]
    if temperature:
        assert reply([asked(1)[0]._replace(seed=99)], 1)[0] != together[0]


def test_a_prompt_over_the_context_is_refused(llm: LLM) -> None:
    prompts = [asked(1)[0], Asked("s", "x" * 600, 0)]
    replies = list(FolderLLM(llm, TextLLMConfig(folder="x", temperature=0.0, max_new_tokens=4)).replies(prompts))
    assert replies[0] is not None
    assert replies[1] is None


def test_either_endpoint_or_folder(tmp_path: Path) -> None:
    for wrong in ({}, {"endpoint": "a", "folder": "b"}, {"endpoint": "a"}):
        with pytest.raises(ValueError, match=r"endpoint"):
            TextLLMConfig(**wrong)

import pytest
from post_server import serve
from starlette.responses import JSONResponse, Response

from icebreaker.data.http import Poster, Refused
from icebreaker.errors import DataError


def test_busy_servers_are_asked_again_ever_later() -> None:
    waits: list[float] = []

    def handle(body: dict, number: int) -> Response:
        return JSONResponse({"got": body["x"]}) if number == 3 else Response("busy", 503 if number else 429)

    with serve(handle) as (url, seen):
        assert Poster(url, sleep=waits.append).post({"x": 7}).json() == {"got": 7}
    assert len(seen) == 4
    assert [0.5 * 2**i <= wait <= 2**i for i, wait in enumerate(waits)] == [True] * 3


def test_a_server_that_stays_down() -> None:
    with serve(lambda body, number: Response("no", 500)) as (url, seen):
        with pytest.raises(DataError, match=r"no answer after 3 tries \(status 500: no\); what is done is kept"):
            Poster(url, tries=3, sleep=lambda s: None).post({})
        assert len(seen) == 3
    with pytest.raises(DataError, match="ConnectError"):
        Poster(url, tries=2, sleep=lambda s: None).post({})


def test_a_server_that_hangs() -> None:
    def handle(body: dict, number: int) -> Response:
        import time

        time.sleep(0.3)
        return Response("late")

    with serve(handle) as (url, _), pytest.raises(DataError, match="ReadTimeout"):
        Poster(url, tries=2, timeout_s=0.05, sleep=lambda s: None).post({})


def test_one_request_refused_and_all_refused() -> None:
    with serve(lambda body, number: Response("too long", 400)) as (url, seen):
        with pytest.raises(Refused, match="too long"):
            Poster(url).post({})
        assert len(seen) == 1
    with (
        serve(lambda body, number: Response("who are you", 401)) as (url, seen),
        pytest.raises(DataError, match="status 401: who are you; check the address"),
    ):
        Poster(url).post({})

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from icebreaker.engine.messages import AddItem, Item, ItemAdded, SessionConfig
from icebreaker.engine.scripted import ScriptedEngine
from icebreaker.engine.store import SessionStore, Stored
from icebreaker.errors import AdmissionError, SessionNotFound

TEXT = SessionConfig(turns="client", output="text")


def saved(text: str) -> Stored:
    return Stored({"saved_at": 4e9, "text": text}, text.encode())


@pytest.fixture
def stores(tmp_path: Path) -> Callable[[], SessionStore]:
    return lambda: SessionStore(tmp_path)


def test_only_the_leader_writes(stores: Callable[[], SessionStore]) -> None:
    one, two, three = stores(), stores(), stores()
    one.save("s", saved("nobody leads it"))
    with pytest.raises(SessionNotFound):
        two.take("s")
    one.claim("s")
    one.save("s", saved("one"))
    assert not one.lost("s")
    assert two.take("s").data["text"] == "one"
    assert one.lost("s")
    one.save("s", saved("late"))
    assert three.load("s").data["text"] == "one"
    two.save("s", saved("two"))
    one.save("s", saved("later"))
    read = three.take("s")
    assert read.data["text"] == "two"
    assert read.speech == b"two"
    assert (one.lost("s"), two.lost("s"), three.lost("s")) == (True, True, False)
    two.forgo("s")
    two.save("s", saved("gone"))
    assert stores().load("s").data["text"] == "two"


def test_of_two_who_take_it_at_once_one_leads(stores: Callable[[], SessionStore]) -> None:
    first = stores()
    first.claim("s")
    first.save("s", saved("first"))
    rivals = [stores() for _ in range(5)]
    for rival in rivals:
        rival.take("s")
    for rival in rivals:
        rival.save("s", saved(f"rival {rivals.index(rival)}"))
    assert [rival.lost("s") for rival in rivals] == [True, True, True, True, False]
    assert first.load("s").data["text"] == "rival 4"


def test_what_a_claim_leaves_unwritten_is_read_from_before(stores: Callable[[], SessionStore]) -> None:
    one, two = stores(), stores()
    one.claim("s")
    one.save("s", saved("one"))
    two.take("s")  # and is killed before it writes anything
    assert stores().take("s").data["text"] == "one"


def test_settings_follow_the_leader(stores: Callable[[], SessionStore]) -> None:
    one, two = stores(), stores()
    assert one.read_settings("s") is None
    assert one.read_settings("../s") is None
    one.claim("s")
    one.save("s", saved("one"))
    one.write_settings("s", {"voice": "a"})
    two.take("s")
    one.write_settings("s", {"voice": "late"})
    assert two.read_settings("s") == {"voice": "a"}


def test_a_scripted_session_moves_between_engines(stores: Callable[[], SessionStore]) -> None:
    async def test() -> None:
        one, two = ScriptedEngine(store=stores()), ScriptedEngine(store=stores(), max_sessions=1)
        async with one.session(TEXT) as session, two.session(TEXT) as other:
            session.push(AddItem(item=Item(id="fact", role="user", text="seven")))
            with pytest.raises(AdmissionError):  # a full engine takes nothing away from another
                await two.session(TEXT, resume=session.id).__aenter__()
            assert not one.store.lost(session.id)
            assert other.id != session.id
        async with two.session(TEXT, resume=session.id) as moved:
            moved.push(AddItem(item=Item(id="more", role="user", text="eight")))
            events = moved.events()
            told = [await anext(events), await anext(events)]
            assert [e.item.id for e in told if isinstance(e, ItemAdded)] == ["fact", "more"]
        async with one.session(TEXT, resume=session.id) as back:  # what one still had of it is out of date
            assert [item.id for item in back.conversation.items] == ["fact", "more"]

    asyncio.run(test())


def test_old_sessions_are_removed_when_the_first_is_led(stores: Callable[[], SessionStore], tmp_path: Path) -> None:
    before = stores()
    for session_id in ("old", "new", "led"):
        before.claim(session_id)
        before.save(session_id, saved(session_id))
    (tmp_path / "not a session").mkdir()
    for name in ("old", "led", "not a session"):
        os.utime(tmp_path / name, (0, 0))
    after = stores()
    after._claims["led"] = 1
    after.claim("another")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "led", "another", "not a session"}

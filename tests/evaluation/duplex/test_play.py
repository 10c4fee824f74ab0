"""What a scene's cues see of the system's replies."""

import asyncio
from typing import Any, cast

import numpy as np

from icebreaker.evaluation.duplex.play import _Stage
from icebreaker.evaluation.duplex.played import PlayedReply

RATE = 24_000


def test_a_reply_whose_sound_is_still_to_come_is_no_silence() -> None:
    async def run() -> None:
        stage = _Stage(RATE, cast("Any", None))
        assert stage.newest_sound() == (0.0, 0.0)
        stage.replies["a"] = PlayedReply("a", "item", 0.0, 0.0, status="completed")
        stage.playback.push(0.0, np.full(RATE // 100, 0.5, np.float32), "a")
        await asyncio.sleep(0.15)  # behind the jitter buffer
        heard_s, silent_s = stage.newest_sound()
        assert heard_s == 0.01
        assert silent_s > 0
        stage.replies["b"] = PlayedReply("b", "item", stage.now_s, stage.now_s)
        assert stage.newest_sound() == (0.0, 0.0)
        stage.replies["b"].status = "cancelled"  # it will have none
        assert stage.newest_sound()[0] == 0.01

    asyncio.run(run())

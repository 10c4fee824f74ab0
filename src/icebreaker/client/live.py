"""A conversation with a Realtime server by microphone and loudspeaker. Knows nothing of the command line."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from icebreaker.audio.microphone import Microphone, Speaker
from icebreaker.audio.pcm import save_wav
from icebreaker.client.asking import Talker
from icebreaker.engine import messages as m
from icebreaker.engine.interface import SessionLike
from icebreaker.errors import AudioError, IcebreakerError

__all__ = ["talk_live"]

Say = Callable[[str], None]
END_OF_SOUND = None
Blocks: TypeAlias = "asyncio.Queue[np.ndarray | IcebreakerError | None]"


def talk_live(
    talker: Talker, config: m.SessionConfig, *, say: Say = lambda text: None, out: Path | None = None
) -> None:
    """Talk until the microphone is closed or the user presses Ctrl-C; both may speak at once.

    The server is told how much of an answer was heard when it is interrupted. Without echo cancellation a loudspeaker
    is heard by the microphone: use headphones.

    Args:
        talker: the server.
        config: how the conversation is led.
        say: called with what was said, as it comes; the user's words are in brackets.
        out: file for all answers, in a row.

    Raises:
        AudioError: there is no microphone, no speaker, or no ``sounddevice``.
        ServerError: the server cannot be reached or went away.
    """
    answers: list[np.ndarray] = []
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_converse(talker, config, say, answers))
    finally:
        if out is not None and answers:
            save_wav(out, np.concatenate(answers), talker.sample_rate)


async def _converse(talker: Talker, config: m.SessionConfig, say: Say, answers: list[np.ndarray]) -> None:
    async with talker.session(replace(config, playback_hold=True)) as session:
        with Microphone() as microphone, Speaker(talker.sample_rate) as speaker:
            blocks: Blocks = asyncio.Queue()
            loop = asyncio.get_running_loop()
            threading.Thread(target=_read, args=(microphone, loop, blocks), daemon=True).start()
            tasks = [
                asyncio.create_task(_listen(session, speaker, talker.sample_rate, say, answers)),
                asyncio.create_task(_send(session, blocks)),
            ]
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            for task in done:
                task.result()


def _read(microphone: Microphone, loop: asyncio.AbstractEventLoop, blocks: Blocks) -> None:
    """In a thread of its own: a microphone makes its reader wait."""
    last: IcebreakerError | None = END_OF_SOUND
    with contextlib.suppress(RuntimeError):  # the conversation ended, and its loop with it
        try:
            for block in microphone:
                loop.call_soon_threadsafe(blocks.put_nowait, block)
        except AudioError as error:
            last = error
        loop.call_soon_threadsafe(blocks.put_nowait, last)


async def _send(session: SessionLike, blocks: Blocks) -> None:
    while (block := await blocks.get()) is not END_OF_SOUND:
        if isinstance(block, IcebreakerError):
            raise block
        session.push(m.Append(waveform=block))


async def _listen(
    session: SessionLike, speaker: Speaker, sample_rate: int, say: Say, answers: list[np.ndarray]
) -> None:
    """Play what comes; pause when the server hears somebody, fall silent when it is the user."""
    playing, given_s = "", 0.0  # the item that plays, and how much of it was handed to the speaker
    async for event in session.events():
        match event:
            case m.Transcribed() if event.text:
                say(f"\n[{event.text}]\n")
            case m.TextDelta():
                say(event.text)
            case m.AudioDelta():
                if event.item_id != playing:
                    playing, given_s = event.item_id, 0.0
                given_s += len(event.waveform) / sample_rate
                answers.append(event.waveform)
                speaker.play(event.waveform)
            case m.PlaybackHeld():
                speaker.hold()
            case m.PlaybackGoesOn():
                speaker.go_on()
            case m.SpeechStarted():
                if playing and speaker.pending_s:
                    unheard_s = speaker.stop()
                    session.push(m.Truncate(item_id=playing, audio_end_ms=1000 * max(0.0, given_s - unheard_s)))
                    playing = ""
                speaker.go_on()  # with what comes next
            case m.ReplyDone():
                say("\n")
            case m.Failed() if event.code != "not_told":
                say(f"\n({event.message})\n")

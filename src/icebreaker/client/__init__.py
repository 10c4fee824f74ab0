"""A Realtime server somewhere else, used like an engine here: commands in, events out.

Say hello in a few lines::

    from pathlib import Path
    from icebreaker.client import RemoteEngine, answer_recording
    from icebreaker.engine.messages import SessionConfig

    answer = answer_recording(RemoteEngine("ws://localhost:8000"), Path("question.wav"), SessionConfig(turns="client"))
    print(answer.heard, answer.text, answer.latency_ms)
"""

from icebreaker.client.asking import Talker, answer_recording, ask_aloud, ask_in_writing
from icebreaker.client.live import talk_live
from icebreaker.client.playback import Playback
from icebreaker.client.remote import RemoteEngine, RemoteSession

__all__ = [
    "Playback", "RemoteEngine", "RemoteSession", "Talker", "answer_recording", "ask_aloud", "ask_in_writing",
    "talk_live",
]  # fmt: skip

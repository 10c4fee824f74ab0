"""A Realtime server somewhere else, used like an engine here: commands in, events out. See ``client.remote``."""

from icebreaker.client.playback import Playback
from icebreaker.client.remote import RemoteEngine, RemoteSession

__all__ = ["Playback", "RemoteEngine", "RemoteSession"]

"""What an operator sets about the server. Plain values; knows nothing of sockets."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ServerConfig"]


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How the server is kept.

    Attributes:
        api_keys: one of them is needed to enter; none at all lets everybody in.
        origins: web pages (``https://host:port``) that may connect besides the server's own; ``*`` is every page.
        max_message_bytes: of one message of a client; more closes the connection (1009).
        messages_per_s, message_burst: how fast a client's messages are read; beyond, they wait.
        audio_speed, audio_burst_s: how much faster than it lasts a client's sound is read, after so many seconds.
        max_session_s: of one connection, from its start.
        idle_s: without any message of the client.
        grace_s: that a session whose client is gone may be resumed; the engine's own may be shorter.
        drain_s: that replies may go on after SIGTERM.
        max_outbox_bytes: of events that a client has not taken yet; a client slower than that is let go.
        max_uncommitted_s: of sound without a commit where the client leads the turns.
        wrong_keys_per_minute: from one address; then it is refused without looking.
        max_sockets: open at the same time, conversations and all else.
        request_s: until a request has to be whole.
        instructions: the system prompt of sessions that set none; None is the model's own.
        static: folder of the web page; None serves none.
    """

    api_keys: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_message_bytes: int = 4 << 20
    messages_per_s: float = 400.0
    message_burst: int = 2000
    audio_speed: float = 8.0
    audio_burst_s: float = 120.0
    max_session_s: float = 3600.0
    idle_s: float = 900.0
    grace_s: float = 60.0
    drain_s: float = 30.0
    max_outbox_bytes: int = 16 << 20
    max_uncommitted_s: float = 120.0
    wrong_keys_per_minute: int = 30
    max_sockets: int = 2000
    request_s: float = 10.0
    instructions: str | None = None
    static: Path | None = Path(__file__).parent / "static"

    def __post_init__(self) -> None:
        for name in (
            "max_message_bytes", "messages_per_s", "message_burst", "audio_speed", "audio_burst_s", "max_session_s",
            "idle_s", "max_outbox_bytes", "max_uncommitted_s", "wrong_keys_per_minute", "max_sockets", "request_s",
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise ValueError(f"expected a positive {name}, got {getattr(self, name)}")
        if self.grace_s < 0 or self.drain_s < 0:
            raise ValueError(f"expected grace_s and drain_s of 0 or more, got {self.grace_s} and {self.drain_s}")

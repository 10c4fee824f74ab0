"""Who may come in: API keys, origins of web pages, addresses that guess. Knows nothing of sessions."""

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from icebreaker.errors import ConfigError
from icebreaker.server.bucket import Bucket
from icebreaker.server.config import ServerConfig

__all__ = ["Gate", "Refusal", "offered_protocols", "read_keys"]

KEY_PROTOCOL = "openai-insecure-api-key."  # a browser cannot set headers: its key comes as a subprotocol
PROTOCOL = "realtime"
REMEMBERED_ADDRESSES = 10_000


class Refusal(Exception):
    """A connection that is not let in: an HTTP status, a stable code and a sentence."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


class Gate:
    """Looks at a connection's headers before it is accepted."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._keys = [_digest(key) for key in config.api_keys]
        self._guessers: OrderedDict[str, Bucket] = OrderedDict()

    def admit(self, connection: HTTPConnection) -> bytes:
        """Let a connection in; returns a digest of its key, by which its sessions are its own.

        Raises:
            Refusal: wrong key (401), a page from elsewhere (403), too many wrong keys (429).
        """
        self._check_origin(connection)
        address = connection.client.host if connection.client else ""
        guesses = self._guessers.get(address)
        if guesses is not None and guesses.left(time.monotonic()) < 1:
            raise Refusal(429, "too_many_wrong_keys", "too many wrong API keys from this address; wait a minute", 60.0)
        digest = _digest(_key_of(connection))
        # Every key is compared, each in constant time: how long it takes tells nothing.
        if self._keys and sum(hmac.compare_digest(digest, key) for key in self._keys) == 0:
            self._count_wrong(address)
            raise Refusal(
                401, "invalid_api_key",
                "expected an API key of this server as 'Authorization: Bearer KEY', or from a web page as the "
                f"WebSocket subprotocol '{KEY_PROTOCOL}KEY'",
            )  # fmt: skip
        return digest

    def _count_wrong(self, address: str) -> None:
        per_minute, now = self._config.wrong_keys_per_minute, time.monotonic()
        bucket = self._guessers.pop(address, None) or Bucket(per_minute / 60, per_minute, now)
        bucket.take(1, now)
        self._guessers[address] = bucket
        while len(self._guessers) > REMEMBERED_ADDRESSES:
            self._guessers.popitem(last=False)

    def _check_origin(self, connection: HTTPConnection) -> None:
        origin = connection.headers.get("origin")
        if origin is None or "*" in self._config.origins or origin.rstrip("/") in self._config.origins:
            return
        host = connection.headers.get("host", "")
        # Without keys, the name of a foreign page may have been pointed at this machine (DNS rebinding).
        if urlsplit(origin).netloc == host and (self._keys or _is_own_name(host)):
            return
        raise Refusal(
            403, "origin_not_allowed", f"web pages of {origin[:200]} may not connect here; allow them with --origin"
        )


def offered_protocols(connection: HTTPConnection) -> list[str]:
    """The WebSocket subprotocols that the client speaks."""
    offered: list[str] = connection.scope.get("subprotocols") or []
    return offered


def read_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file, one a line; empty lines and those with ``#`` in front do not count.

    Raises:
        ConfigError: the file cannot be read, or holds no key.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a file with an API key a line, cannot read it: {error}") from error
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ConfigError(f"{path}: expected an API key a line, got none; leave --api-key-file out to let everybody in")
    return keys


def _key_of(connection: HTTPConnection) -> str:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    offered = (each for each in offered_protocols(connection) if each.startswith(KEY_PROTOCOL))
    return next(offered, "").removeprefix(KEY_PROTOCOL)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_own_name(host: str) -> bool:
    """Whether it is an address or this machine itself, which no foreign page can be named."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return True

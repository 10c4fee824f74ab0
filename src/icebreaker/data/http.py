"""POST that tries again: for LLM and TTS servers that are busy, restarting or slow. Knows nothing of what is sent."""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from icebreaker.errors import DataError
from icebreaker.extras import load_extra

__all__ = ["Poster", "Refused"]

logger = logging.getLogger(__name__)
BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
HOPELESS = frozenset({401, 403, 404, 405})  # every other request would fail alike
LONGEST_WAIT_S = 60.0


class Refused(Exception):
    """The server understood one request and will not serve it; others may go well."""


class Poster:
    """Sends JSON to one address, from any number of threads; waits longer after every failure."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
        tries: int = 6,
        first_wait_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``sleep`` is what waits between tries: tests need not."""
        self.httpx = load_extra("httpx", "train")
        self.url, self.tries, self.first_wait_s, self.sleep = url, tries, first_wait_s, sleep
        # A connection for every request: what waits seconds for an LLM need not be kept open, nor closed by anybody.
        self.options = {"headers": dict(headers or {}), "timeout": timeout_s, "verify": self.httpx.create_ssl_context()}
        self.jitter, self.lock = random.Random(0), threading.Lock()

    def post(self, content: Mapping[str, Any]) -> Any:
        """The response to ``content``: an ``httpx.Response`` with status 2xx.

        Raises:
            DataError: the server cannot be reached, stays busy, or refuses everybody.
            Refused: it refuses this request only (bad request, too long).
        """
        trouble = ""
        for attempt in range(self.tries):
            if attempt:
                self.sleep(self._wait(attempt))
            try:
                response = self.httpx.post(self.url, json=dict(content), **self.options)
            except self.httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return response
                trouble = f"status {response.status_code}: {response.text[:200]}"
                if response.status_code in HOPELESS:
                    raise DataError(f"{self.url}: {trouble}; check the address, the model's name and the key")
                if response.status_code not in BUSY:
                    raise Refused(trouble)
            logger.warning("%s: try %d of %d: %s", self.url, attempt + 1, self.tries, trouble)
        raise DataError(
            f"{self.url}: no answer after {self.tries} tries ({trouble}); what is done is kept: run again when it is up"
        )

    def _wait(self, attempt: int) -> float:
        with self.lock:
            spread = self.jitter.uniform(0.5, 1.0)  # lest all threads come back at once
        return min(LONGEST_WAIT_S, float(self.first_wait_s * 2 ** (attempt - 1))) * spread

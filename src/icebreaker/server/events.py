"""What the server says: every event with all its required fields, GA names only. Knows nothing of sessions."""

import itertools
import secrets
from typing import Any

from icebreaker.engine.messages import Usage
from icebreaker.errors import ProtocolError
from icebreaker.server.fields import JSON

__all__ = ["Stamp", "error_event", "usage_of"]


class Stamp:
    """Gives every event of one connection its own ``event_id``."""

    def __init__(self) -> None:
        self._prefix, self._count = f"event_{secrets.token_hex(6)}", itertools.count(1)

    def __call__(self, kind: str, **fields: Any) -> JSON:
        """An event of this kind."""
        return {"type": kind, "event_id": f"{self._prefix}_{next(self._count)}", **fields}


def error_event(stamp: Stamp, error: ProtocolError, about: str | None = None, kind: str = "") -> JSON:
    """The ``error`` event of what a client did wrong; ``about`` is the client's id of its event."""
    told = {
        "type": kind or "invalid_request_error",
        "code": error.code,
        "message": str(error),
        "param": error.param,
        "event_id": about,
    }
    return stamp("error", error=told)


def usage_of(usage: Usage, output: str) -> JSON:
    """``usage`` of a response. The LLM's positions are counted once, and its words count as what they are put out as.

    Speech in and text share one sequence of positions here, so input counts as text.
    """
    spoken = usage.output_tokens if output == "audio" else 0
    return {
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            "text_tokens": usage.input_tokens,
            "audio_tokens": 0,
            "image_tokens": 0,
            "cached_tokens": 0,
            "cached_tokens_details": {"text_tokens": 0, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": usage.output_tokens - spoken, "audio_tokens": spoken},
    }

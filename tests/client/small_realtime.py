"""A small Realtime server over a real socket, whose behaviour a test chooses. Hears by level, answers with a tone."""

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

RATE = 24_000
LOUD = 1000  # of int16


@dataclass
class SmallRealtime:
    """What it does.

    Attributes:
        reply: its text, the answer to everything; words are spoken evenly over ``reply_ms``.
        reply_ms: of tone.
        silence_ms: that end a turn.
        delay_s: between a turn's end and the reply's first sound.
        deaf_to_barge_in: goes on speaking, come what may.
        jumpy: takes any loud frame for a turn's beginning and end.
        api_key: without it, 401.
        drop_after: connections that get no further than that many client messages; then all is well.
        transcript: of everything it hears.
    """

    reply: str = "the capital of france is paris"
    reply_ms: int = 600
    silence_ms: int = 200
    delay_s: float = 0.0
    deaf_to_barge_in: bool = False
    api_key: str | None = None
    drop_after: list[int] = field(default_factory=list)
    transcript: str = "what is the capital of france"
    sessions: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)
    address: str = ""

    @contextlib.contextmanager
    def running(self) -> Iterator["SmallRealtime"]:
        """Serve in a thread of its own, on a free port, until left."""
        loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

        async def main() -> None:
            async with serve(self._talk, "127.0.0.1", 0, process_request=self._admit, max_size=None) as server:
                self.address = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                ready.set()
                await stop.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            loop.close()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.api_key is None or request.headers.get("Authorization") == f"Bearer {self.api_key}":
            return None
        return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong key")

    async def _talk(self, socket: ServerConnection) -> None:
        self.sessions += 1
        await Conversation(self, socket, f"session-{self.sessions}").run()


class Conversation:
    def __init__(self, server: SmallRealtime, socket: ServerConnection, name: str) -> None:
        self.server, self.socket, self.name = server, socket, name
        self.turn_detection: dict[str, Any] | None = {"type": "semantic_vad"}
        self.modalities = ["audio"]
        self.count, self.silent_ms, self.heard_ms = 0, 0.0, 0.0
        self.speaking = False
        self.reply: asyncio.Task[None] | None = None
        self.items: dict[str, str] = {}
        self.sent = 0.0

    async def run(self) -> None:
        limit = self.server.drop_after.pop(0) if self.server.drop_after else None
        with contextlib.suppress(ConnectionClosed):
            await self.send("session.created", session={"id": self.name})
            number = 0
            async for message in self.socket:
                number += 1
                if limit is not None and number > limit:
                    await self.socket.close(1011, "dropped on purpose")
                    break
                event = json.loads(message)
                self.server.received.append({**event, "audio": None})
                await self.obey(event)
        if self.reply is not None:
            self.reply.cancel()

    async def send(self, kind: str, **fields: Any) -> None:
        self.count += 1
        await self.socket.send(json.dumps({"type": kind, "event_id": f"{self.name}-{self.count}", **fields}))

    async def obey(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                session = event["session"]
                self.turn_detection = session["audio"]["input"]["turn_detection"]
                self.modalities = session["output_modalities"]
                await self.send("session.updated", session=session)
            case "input_audio_buffer.append":
                await self.hear(np.frombuffer(base64.b64decode(event["audio"]), "<i2"))
            case "input_audio_buffer.commit":
                await self.commit()
            case "conversation.item.create":
                item = event["item"]
                await self.send("conversation.item.added", item=item, previous_item_id=None)
            case "response.create":
                output = event.get("response", {}).get("output_modalities", self.modalities)
                self.reply = asyncio.create_task(self.speak(output))
            case "response.cancel":
                if self.reply is None or self.reply.done():
                    await self.send("error", error={"code": "response_cancel_not_active", "message": "nothing to stop"})
            case "conversation.item.truncate":
                kept = event["audio_end_ms"] / self.server.reply_ms
                words = self.server.reply.split()
                self.items[event["item_id"]] = " ".join(words[: int(kept * len(words))])
                fields = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
                await self.send("conversation.item.truncated", **fields)
            case "conversation.item.retrieve" if event["item_id"] in self.items:
                part = {"type": "output_audio", "transcript": self.items[event["item_id"]]}
                item = {"id": event["item_id"], "type": "message", "role": "assistant", "content": [part]}
                await self.send("conversation.item.retrieved", item=item)
            case "conversation.item.retrieve":
                about = {"code": "item_retrieve_invalid_item_id", "message": "?", "event_id": event.get("event_id")}
                await self.send("error", error=about)
            case other:
                await self.send("error", error={"code": "unknown", "message": f"no event {other}"})

    async def hear(self, pcm: np.ndarray) -> None:
        self.heard_ms += 1000 * len(pcm) / RATE
        loud = bool(len(pcm)) and int(np.abs(pcm.astype(int)).max()) > LOUD
        self.silent_ms = 0.0 if loud else self.silent_ms + 1000 * len(pcm) / RATE
        if self.turn_detection is None:
            return
        if loud and not self.speaking:
            self.speaking = True
            if self.reply is not None and not self.reply.done() and self.server.deaf_to_barge_in:
                return
            await self.send("input_audio_buffer.speech_started", audio_start_ms=int(self.heard_ms), item_id="user")
            if self.reply is not None and not self.reply.done():
                self.reply.cancel()
                await self.done("cancelled", {"type": "cancelled", "reason": "turn_detected"})
        elif self.speaking and self.silent_ms >= self.server.silence_ms:
            self.speaking = False
            await self.send("input_audio_buffer.speech_stopped", audio_end_ms=int(self.heard_ms), item_id="user")
            await self.commit()
            if self.reply is None or self.reply.done():
                self.reply = asyncio.create_task(self.speak(self.modalities))

    async def commit(self) -> None:
        await self.send("input_audio_buffer.committed", item_id="user", previous_item_id=None)
        await self.send(
            "conversation.item.input_audio_transcription.completed", item_id="user", content_index=0,
            transcript=self.server.transcript, usage={"type": "duration", "seconds": self.heard_ms / 1000},
        )  # fmt: skip

    async def speak(self, output: list[str]) -> None:
        await asyncio.sleep(self.server.delay_s)
        self.count += 1
        self.response, self.item = f"{self.name}-response-{self.count}", f"{self.name}-item-{self.count}"
        ids = {"response_id": self.response, "item_id": self.item, "output_index": 0, "content_index": 0}
        await self.send("response.created", response={"id": self.response, "status": "in_progress"})
        item = {"id": self.item, "type": "message", "role": "assistant", "content": []}
        await self.send("response.output_item.added", response_id=self.response, output_index=0, item=item)
        kind = "output_audio_transcript" if "audio" in output else "output_text"
        await self.send(f"response.{kind}.delta", delta=self.server.reply, **ids)
        self.items[self.item] = self.server.reply
        if "audio" in output:
            tone = (0.3 * np.sin(np.arange(RATE * self.server.reply_ms // 1000) / 9) * 32767).astype("<i2")
            for start in range(0, len(tone), RATE // 10):
                delta = base64.b64encode(tone[start : start + RATE // 10].tobytes()).decode()
                await self.send("response.output_audio.delta", delta=delta, **ids)
                await asyncio.sleep(0.05)  # twice as fast as it plays
            await self.send("response.output_audio.done", **ids)
        text = {"transcript" if "audio" in output else "text": self.server.reply}
        await self.send(f"response.{kind}.done", **text, **ids)
        await self.done("completed", None)

    async def done(self, status: str, details: dict[str, Any] | None) -> None:
        response = {"id": self.response, "status": status, "status_details": details, "output": [], "usage": {}}
        await self.send("response.done", response=response)

"""Between the engine's words and the Realtime protocol's, seen from the client. Knows nothing of sockets.

Servers that still speak the older beta event names are understood too; what is sent is always GA.
"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from icebreaker.audio.fbank import SAMPLE_RATE
from icebreaker.audio.pcm import Resampler, pcm_to_waveform, waveform_to_pcm
from icebreaker.engine import messages as m

__all__ = ["WIRE_RATE", "Wire", "session_of"]

WIRE_RATE = 24_000  # PCM16 mono, both ways
JSON = dict[str, Any]
BETA = {
    "response.audio.delta": "response.output_audio.delta",
    "response.audio.done": "response.output_audio.done",
    "response.audio_transcript.delta": "response.output_audio_transcript.delta",
    "response.audio_transcript.done": "response.output_audio_transcript.done",
    "response.text.delta": "response.output_text.delta",
    "response.text.done": "response.output_text.done",
    "conversation.item.created": "conversation.item.added",
}
RETRIEVE = "retrieve-truncated-"  # event id prefix: what did a truncated item keep?


def session_of(config: m.SessionConfig, *, ours: bool = False) -> JSON:
    """The ``session`` of a ``session.update`` that asks for ``config``; what the protocol cannot say is left out.

    ``ours``: the server is one of ours, which knows more than the protocol.
    """
    takes_turns = {"create_response": config.create_response, "interrupt_response": config.interrupt_response}
    turn_detection: JSON | None = None
    if config.turns == "model":
        turn_detection = {"type": "semantic_vad", "eagerness": config.eagerness, **takes_turns}
    elif config.turns == "silence":
        turn_detection = {
            "type": "server_vad", "threshold": config.threshold, "prefix_padding_ms": config.prefix_padding_ms,
            "silence_duration_ms": config.silence_ms, "idle_timeout_ms": config.idle_timeout_ms, **takes_turns,
        }  # fmt: skip
    sound = {"type": "audio/pcm", "rate": WIRE_RATE}
    listening: JSON = {"format": sound, "turn_detection": turn_detection}
    listening["transcription"] = {"model": "whisper-1"} if config.transcribe else None
    session: JSON = {
        "type": "realtime",
        "output_modalities": [config.output],
        "audio": {"input": listening, "output": {"format": sound}},
        "tools": [_tool(tool) for tool in config.tools],
        "tool_choice": config.tool_choice,
    }
    if config.instructions is not None:
        session["instructions"] = config.instructions
    if config.max_output_tokens is not None:
        session["max_output_tokens"] = config.max_output_tokens
    if ours:
        session["icebreaker"] = {"playback_hold": config.playback_hold}
    return session


@dataclass
class Wire:
    """One connection's translation; it remembers what an event alone does not say.

    Attributes:
        ours: whether the server is one of ours.
    """

    ours: bool = False
    _input: Resampler | None = None
    _sent_ms: dict[str, float] = field(default_factory=dict)  # of sound, by response
    _truncated: dict[str, float] = field(default_factory=dict)  # audio_end_ms of items whose text is asked for

    def outgoing(self, command: m.Command) -> list[JSON]:
        """What to send for ``command``."""
        match command:
            case m.Configure(config=config):
                return [{"type": "session.update", "session": session_of(config, ours=self.ours)}]
            case m.Append(waveform=waveform):
                return self._append(waveform, last=False)
            case m.Commit():
                rest = self._append(np.zeros(0, np.float32), last=True) if self._input is not None else []
                return [*rest, {"type": "input_audio_buffer.commit"}]
            case m.ClearAudio():
                self._input = None
                return [{"type": "input_audio_buffer.clear"}]
            case m.AddItem(item=item, previous_item_id=previous, waveform=waveform):
                after = {} if previous is None else {"previous_item_id": previous}
                return [{"type": "conversation.item.create", "item": _item_out(item, waveform), **after}]
            case m.DeleteItem(item_id=item_id):
                return [{"type": "conversation.item.delete", "item_id": item_id}]
            case m.Truncate(item_id=item_id, audio_end_ms=end):
                self._truncated[item_id] = end
                return [{"type": "conversation.item.truncate", "item_id": item_id, "content_index": 0,
                         "audio_end_ms": round(end)}]  # fmt: skip
            case m.Respond():
                return [{"type": "response.create", "response": _response_out(command)}]
            case m.Cancel():
                return [{"type": "response.cancel"}]

    def incoming(self, event: JSON) -> tuple[list[m.SessionEvent], list[JSON]]:
        """What ``event`` means, and what to send because of it. Unknown events mean nothing."""
        kind = str(event.get("type", ""))
        kind = BETA.get(kind, kind)
        if kind == "conversation.item.truncated":
            item_id = str(event["item_id"])
            self._truncated[item_id] = float(event.get("audio_end_ms", 0))
            asked = {"type": "conversation.item.retrieve", "item_id": item_id, "event_id": f"{RETRIEVE}{item_id}"}
            return [], [asked]
        return self._events(kind, event), []

    def _events(self, kind: str, event: JSON) -> list[m.SessionEvent]:
        prefix, _, rest = kind.partition(".")
        match prefix:
            case "input_audio_buffer":
                return _input_event(rest, event)
            case "conversation":
                return self._conversation_event(rest, event)
            case "response":
                return self._response_event(rest, event)
            case "icebreaker":
                held: dict[str, m.SessionEvent] = {"hold": m.PlaybackHeld(), "go_on": m.PlaybackGoesOn()}
                return [held[name]] if (name := rest.removeprefix("playback.")) in held else []
            case "error":
                return self._error(event.get("error") or {})
        return []

    def _conversation_event(self, kind: str, event: JSON) -> list[m.SessionEvent]:
        match kind:
            case "item.added":
                return [m.ItemAdded(item=_item_in(event["item"]), previous_item_id=event.get("previous_item_id"))]
            case "item.deleted":
                return [m.ItemDeleted(item_id=event["item_id"])]
            case "item.input_audio_transcription.completed":
                seconds = float((event.get("usage") or {}).get("seconds") or 0)
                return [m.Transcribed(item_id=event["item_id"], text=event["transcript"].strip(), seconds=seconds)]
            case "item.input_audio_transcription.failed":
                return [m.Failed(code="transcription_failed", message=str((event.get("error") or {}).get("message")))]
            case "item.retrieved":
                item, parts = _item_in(event["item"]), event["item"].get("content") or ()
                if (end := self._truncated.pop(item.id, None)) is not None:
                    if any(isinstance(part.get("transcript", part.get("text")), str) for part in parts):
                        return [m.ItemTruncated(item_id=item.id, audio_end_ms=end, text=item.text)]
                    return [_not_told(item.id)]
        return []

    def _response_event(self, kind: str, event: JSON) -> list[m.SessionEvent]:
        response_id, item_id = str(event.get("response_id", "")), str(event.get("item_id", ""))
        match kind:
            case "output_item.added" if event["item"].get("type") == "message":
                return [m.ReplyStarted(response_id=response_id, item_id=event["item"]["id"], previous_item_id=None,
                                       output="audio")]  # fmt: skip
            case "output_audio.delta":
                waveform = _sound(event["delta"])
                start = self._sent_ms.get(response_id, 0.0)
                self._sent_ms[response_id] = start + 1000 * len(waveform) / WIRE_RATE
                return [m.AudioDelta(response_id=response_id, item_id=item_id, waveform=waveform, start_ms=start)]
            case "output_audio_transcript.delta" | "output_text.delta":
                return [m.TextDelta(response_id=response_id, item_id=item_id, text=event["delta"])]
            case "output_audio_transcript.done" | "output_text.done":
                text = str(event.get("transcript") or event.get("text") or "")
                return [m.TranscriptDone(response_id=response_id, item_id=item_id, text=text)]
            case "output_audio.done":
                return [m.AudioDone(response_id=response_id, item_id=item_id)]
            case "done":
                return [self._reply_done(event["response"])]
        return []

    def _reply_done(self, response: JSON) -> m.ReplyDone:
        details, usage = response.get("status_details") or {}, response.get("usage") or {}
        reason = details.get("reason") or (details.get("error") or {}).get("message") or ""
        reply = m.Reply(
            status=response["status"],
            reason=str(reason),
            items=tuple(_item_in(item) for item in response.get("output") or ()),
            usage=m.Usage(
                input_tokens=int(usage.get("input_tokens") or 0), output_tokens=int(usage.get("output_tokens") or 0)
            ),
            audio_ms=self._sent_ms.pop(response["id"], 0.0),
        )
        return m.ReplyDone(response_id=response["id"], reply=reply)

    def _error(self, error: JSON) -> list[m.SessionEvent]:
        about = str(error.get("event_id") or "")
        item_id = about.removeprefix(RETRIEVE)
        if about.startswith(RETRIEVE) and self._truncated.pop(item_id, None) is not None:
            return [_not_told(item_id)]
        return [
            m.Failed(code=str(error.get("code") or error.get("type") or "error"), message=str(error.get("message")))
        ]

    def _append(self, waveform: NDArray[np.float32], *, last: bool) -> list[JSON]:
        resampler = self._input or Resampler(SAMPLE_RATE, WIRE_RATE)
        self._input = None if last else resampler
        resampled = resampler.push(waveform, last=last)
        return [{"type": "input_audio_buffer.append", "audio": _base64(resampled)}] if len(resampled) else []


def _not_told(item_id: str) -> m.Failed:
    return m.Failed(code="not_told", message=f"the server cut {item_id} but does not say what it kept of its text")


def _input_event(kind: str, event: JSON) -> list[m.SessionEvent]:
    item_id = str(event.get("item_id", ""))
    match kind:
        case "speech_started":
            return [m.SpeechStarted(item_id=item_id, at_ms=float(event.get("audio_start_ms") or 0))]
        case "speech_stopped":
            return [m.SpeechStopped(item_id=item_id, at_ms=float(event.get("audio_end_ms") or 0))]
        case "committed":
            return [m.Committed(item_id=item_id, previous_item_id=event.get("previous_item_id"))]
    return []


def _tool(tool: m.Tool) -> JSON:
    return {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _response_out(respond: m.Respond) -> JSON:
    response: JSON = {}
    if respond.instructions is not None:
        response["instructions"] = respond.instructions
    if respond.output is not None:
        response["output_modalities"] = [respond.output]
    if respond.max_output_tokens is not None:
        response["max_output_tokens"] = respond.max_output_tokens
    if respond.tools is not None:
        response["tools"] = [_tool(tool) for tool in respond.tools]
    if respond.tool_choice is not None:
        response["tool_choice"] = respond.tool_choice
    if not respond.in_conversation:
        response["conversation"] = "none"
    return response


def _item_out(item: m.Item, waveform: NDArray[np.float32] | None) -> JSON:
    if item.kind == "function_call_output":
        return {"id": item.id, "type": item.kind, "call_id": item.call_id, "output": item.text}
    if item.kind == "function_call":
        return {"id": item.id, "type": item.kind, "call_id": item.call_id, "name": item.name,
                "arguments": item.arguments}  # fmt: skip
    part: JSON = {"type": "output_text" if item.role == "assistant" else "input_text", "text": item.text}
    if waveform is not None:
        sound = Resampler(SAMPLE_RATE, WIRE_RATE).push(waveform, last=True)
        part = {"type": "input_audio", "audio": _base64(sound), "transcript": item.text or None}
    return {"id": item.id, "type": "message", "role": item.role, "content": [part]}


def _item_in(item: JSON) -> m.Item:
    kind = item.get("type", "message")
    if kind not in ("message", "function_call", "function_call_output"):
        kind = "message"
    parts = item.get("content") or ()
    text = " ".join(str(part.get("transcript") or part.get("text") or "") for part in parts).strip()
    status = item.get("status")
    return m.Item(
        id=str(item.get("id", "")), kind=kind, role=item.get("role"), text=text or str(item.get("output") or ""),
        status=status if status in ("in_progress", "incomplete") else "completed", name=str(item.get("name") or ""),
        arguments=str(item.get("arguments") or ""), call_id=str(item.get("call_id") or ""),
    )  # fmt: skip


def _base64(waveform: NDArray[np.float32]) -> str:
    return base64.b64encode(waveform_to_pcm(waveform).astype("<i2").tobytes()).decode()


def _sound(delta: str) -> NDArray[np.float32]:
    try:
        return pcm_to_waveform(base64.b64decode(delta, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"expected base64 of little-endian PCM16 in an audio delta, got {delta[:20]!r}") from error

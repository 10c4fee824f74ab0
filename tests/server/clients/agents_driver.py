"""openai-agents: ``RealtimeRunner``. Arguments: http address, raw PCM16 at 24 kHz, scenarios."""

import asyncio
import json
import os
import sys
from pathlib import Path

from agents import function_tool
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_inputs import RealtimeModelSendRawMessage

ENOUGH_MS = float(os.environ.get("ENOUGH_MS", "2000"))  # of sound, then the user speaks up
PATIENCE = float(os.environ.get("PATIENCE", "1"))  # with a slow model
calls: list[dict] = []


@function_tool
def weather(city: str) -> str:
    """Of a city."""
    calls.append({"city": city})
    return "sunny"


async def main(scenario: str, address: str, pcm: bytes) -> dict:
    calls.clear()
    told = {"heard": [], "said": [], "audio_ms": 0.0, "cancelled": "", "errors": []}
    tools = [weather] if scenario == "tool" else []
    agent = RealtimeAgent(name="test", instructions="You are a helpful assistant.", tools=tools)
    settings = {
        "turn_detection": None if scenario == "client" else {"type": "semantic_vad", "interrupt_response": True}
    }
    url = address.replace("http", "ws") + "/v1/realtime"
    config = {"url": url, "api_key": "key", "initial_model_settings": settings}
    async with await RealtimeRunner(agent).run(model_config=config) as session:
        await session.send_audio(pcm, commit=scenario == "client")
        if scenario == "client":
            await session.model.send_event(RealtimeModelSendRawMessage(message={"type": "response.create"}))
        wanted, spoken = (2 if scenario in ("barge", "tool") else 1), False
        async with asyncio.timeout(60 * PATIENCE):
            async for event in session:
                raw = getattr(getattr(event, "data", None), "type", "")
                if event.type == "audio":
                    told["audio_ms"] += len(event.audio.data) / 48
                    if scenario == "barge" and told["audio_ms"] > ENOUGH_MS and not spoken:
                        spoken = True
                        await session.send_audio(pcm)
                elif event.type == "audio_interrupted":
                    told["cancelled"] = "turn_detected"
                elif event.type == "error":
                    told["errors"].append(str(event.error))
                elif raw == "turn_ended":
                    wanted -= 1
                    if wanted == 0:
                        break
            # The transcript and the last item may still be under way.
            await asyncio.sleep(0.3)
        for item in session._history:
            if item.type != "message":
                continue
            for part in item.content:
                words = getattr(part, "transcript", None) or getattr(part, "text", None)
                if words:
                    told["heard" if item.role == "user" else "said"].append(words)
    if calls:
        told["call"] = ["weather", calls[0]]
    return told


if __name__ == "__main__":
    address, sound, *scenarios = sys.argv[1:]
    print(json.dumps({each: asyncio.run(main(each, address, Path(sound).read_bytes())) for each in scenarios}))

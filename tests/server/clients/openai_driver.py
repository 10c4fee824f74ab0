"""openai: ``client.realtime.connect``. Arguments: http address, raw PCM16 at 24 kHz, scenarios. Prints JSON."""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path

from openai import AsyncOpenAI

WEATHER = {
    "type": "function", "name": "weather", "description": "Of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}  # fmt: skip
ENOUGH_MS = float(os.environ.get("ENOUGH_MS", "2000"))  # of sound, then the user speaks up
PATIENCE = float(os.environ.get("PATIENCE", "1"))  # with a slow model
TURNS = {"type": "server_vad", "silence_duration_ms": 300}


async def main(scenario: str, address: str, pcm: bytes) -> dict:
    told = {"heard": [], "said": [], "audio_ms": 0.0, "cancelled": "", "errors": []}
    item_id = ""
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key="key").realtime.connect(model="icebreaker") as connection:

        async def until(*kinds: str):
            nonlocal item_id
            async with asyncio.timeout(60 * PATIENCE):
                while True:
                    event = await connection.recv()
                    if event.type == "response.output_audio.delta":
                        told["audio_ms"] += len(base64.b64decode(event.delta)) / 48
                        item_id = event.item_id
                    elif event.type == "conversation.item.input_audio_transcription.completed":
                        told["heard"].append(event.transcript)
                    elif event.type == "error":
                        told["errors"].append(event.error.message)
                    elif event.type == "response.done":
                        for item in event.response.output or []:
                            if item.type == "message":
                                told["said"].append(item.content[0].transcript)
                        if event.response.status == "cancelled":
                            told["cancelled"] = event.response.status_details.reason
                    if event.type in kinds:
                        return event

        async def speak(sound: bytes) -> None:
            for start in range(0, len(sound), 4800):
                await connection.input_audio_buffer.append(audio=base64.b64encode(sound[start : start + 4800]).decode())

        turn_detection = None if scenario == "client" else TURNS
        session = {"type": "realtime", "audio": {"input": {"turn_detection": turn_detection}}}
        if scenario == "tool":
            session["tools"] = [WEATHER]
        await connection.session.update(session=session)
        await until("session.updated")
        await speak(pcm)
        if scenario == "client":
            await connection.input_audio_buffer.commit()
            await connection.response.create()
        if scenario == "tool":
            call = (await until("response.done")).response.output[0]
            told["call"] = [call.name, json.loads(call.arguments)]
            output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
            await connection.conversation.item.create(item=output)
            await connection.response.create()
        if scenario == "barge":
            while told["audio_ms"] < ENOUGH_MS:
                await until("response.output_audio.delta")
            await speak(pcm)
            await until("response.done")
            await connection.conversation.item.truncate(item_id=item_id, content_index=0, audio_end_ms=500)
            await until("conversation.item.truncated")
        await until("response.done")
    return told


if __name__ == "__main__":
    address, sound, *scenarios = sys.argv[1:]
    print(json.dumps({each: asyncio.run(main(each, address, Path(sound).read_bytes())) for each in scenarios}))

"""livekit-plugins-openai: ``realtime.RealtimeModel``. Arguments: http address, raw PCM16 at 24 kHz, scenarios."""

import asyncio
import json
import os
import sys
from pathlib import Path

from livekit import rtc
from livekit.agents import llm
from livekit.plugins import openai

RATE = 24_000
ENOUGH_MS = float(os.environ.get("ENOUGH_MS", "2000"))  # of sound, then the user speaks up
PATIENCE = float(os.environ.get("PATIENCE", "1"))  # with a slow model


@llm.function_tool
async def weather(city: str) -> str:
    """Of a city."""
    return "sunny"


async def main(scenario: str, address: str, pcm: bytes) -> dict:
    told = {"heard": [], "said": [], "audio_ms": 0.0, "cancelled": "", "errors": []}
    arguments = {"turn_detection": None} if scenario == "client" else {}
    model = openai.realtime.RealtimeModel(base_url=f"{address}/v1", api_key="key", **arguments)
    session = model.session()
    generations: asyncio.Queue[llm.GenerationCreatedEvent] = asyncio.Queue()
    session.on("generation_created", generations.put_nowait)
    session.on("error", lambda event: told["errors"].append(str(event.error)))

    def transcribed(event) -> None:
        if event.is_final:
            told["heard"].append(event.transcript)

    session.on("input_audio_transcription_completed", transcribed)
    if scenario == "tool":
        await session.update_tools([weather])

    def speak() -> None:
        for start in range(0, len(pcm), 4800):
            piece = pcm[start : start + 4800]
            session.push_audio(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))

    async def reply(generation, interrupt: bool = False) -> llm.FunctionCall | None:
        async for message in generation.message_stream:
            heard_ms, spoken = 0.0, False
            async for frame in message.audio_stream:
                heard_ms += frame.duration * 1000
                if interrupt and heard_ms > ENOUGH_MS and not spoken:
                    spoken = True
                    speak()
            told["audio_ms"] += heard_ms
            told["said"].append("".join([delta async for delta in message.text_stream]))
            if interrupt:
                told["cancelled"] = "turn_detected"
                session.truncate(message_id=message.message_id, modalities=["audio"], audio_end_ms=500)
        async for call in generation.function_stream:
            return call
        return None

    async with asyncio.timeout(60 * PATIENCE):
        speak()
        if scenario == "client":
            session.commit_audio()
            generation = await session.generate_reply()
        else:
            generation = await generations.get()
        call = await reply(generation, interrupt=scenario == "barge")
        if scenario == "barge":
            await reply(await generations.get())
        if call is not None:
            told["call"] = [call.name, json.loads(call.arguments)]
            context = session.chat_ctx.copy()
            output = llm.FunctionCallOutput(call_id=call.call_id, name=call.name, output="sunny", is_error=False)
            context.items.append(output)
            await session.update_chat_ctx(context)
            await reply(await session.generate_reply())
        await asyncio.sleep(0.3)
    await session.aclose()
    await model.aclose()
    return told


if __name__ == "__main__":
    address, sound, *scenarios = sys.argv[1:]
    print(json.dumps({each: asyncio.run(main(each, address, Path(sound).read_bytes())) for each in scenarios}))

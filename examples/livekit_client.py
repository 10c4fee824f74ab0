"""Ask a recorded question with LiveKit's model: pip install livekit-plugins-openai soundfile"""

import asyncio
import sys

import soundfile
from livekit import rtc
from livekit.plugins import openai


async def main(server: str = "http://localhost:8000", question: str = "examples/question.wav") -> None:
    """Print the answer."""
    pcm, rate = soundfile.read(question, dtype="int16")
    model = openai.realtime.RealtimeModel(base_url=f"{server}/v1", api_key="any")
    session, generations = model.session(), asyncio.Queue()
    session.on("generation_created", generations.put_nowait)
    session.push_audio(rtc.AudioFrame(pcm.tobytes() + bytes(6 * rate), rate, 1, len(pcm) + 3 * rate))  # it goes on
    generation = await generations.get()
    async for message in generation.message_stream:
        async for delta in message.text_stream:
            print(delta, end="", flush=True)
    print()
    await session.aclose()
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Ask a recorded question with OpenAI Agents: pip install openai-agents soundfile soxr"""

import asyncio
import sys

import soundfile
import soxr
from agents.realtime import RealtimeAgent, RealtimeRunner


async def main(server: str = "http://localhost:8000", question: str = "examples/question.wav") -> None:
    """Print the answer."""
    waveform, rate = soundfile.read(question)
    pcm = (soxr.resample(waveform, rate, 24_000) * 32767).astype("<i2").tobytes() + bytes(3 * 48_000)  # it goes on
    config = {"url": server.replace("http", "ws", 1) + "/v1/realtime", "api_key": "any"}
    agent = RealtimeAgent(name="assistant", instructions="Answer in one sentence.")
    async with await RealtimeRunner(agent).run(model_config=config) as session:
        await session.send_audio(pcm)
        async for event in session:
            if event.type == "raw_model_event" and event.data.type == "transcript_delta":
                print(event.data.delta, end="", flush=True)
            elif event.type == "raw_model_event" and event.data.type == "turn_ended":
                break
    print()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Ask a recorded question with the openai package: pip install openai soundfile soxr"""

import asyncio
import base64
import sys

import soundfile
import soxr
from openai import AsyncOpenAI


async def main(server: str = "http://localhost:8000", question: str = "examples/question.wav") -> None:
    """Print the answer."""
    waveform, rate = soundfile.read(question)
    pcm = (soxr.resample(waveform, rate, 24_000) * 32767).astype("<i2").tobytes() + bytes(3 * 48_000)  # it goes on
    async with AsyncOpenAI(base_url=f"{server}/v1", api_key="any").realtime.connect(model="icebreaker") as connection:
        await connection.input_audio_buffer.append(audio=base64.b64encode(pcm).decode())
        answer = b""
        async for event in connection:
            if event.type == "response.output_audio.delta":
                answer += base64.b64decode(event.delta)
            elif event.type == "response.done":
                print(event.response.output[0].content[0].transcript)
                break
    with soundfile.SoundFile("answer.wav", "w", 24_000, 1, "PCM_16") as file:
        file.buffer_write(answer, "int16")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

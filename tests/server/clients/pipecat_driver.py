"""pipecat-ai: ``OpenAIRealtimeLLMService`` in a pipeline. Arguments: http address, raw PCM16 at 24 kHz, scenarios."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from loguru import logger
from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.frames import frames as f
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime import events
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner

logger.remove()
logger.add(sys.stderr, level="WARNING")
RATE = 24_000
ENOUGH_MS = float(os.environ.get("ENOUGH_MS", "2000"))  # of sound, then the user speaks up
PATIENCE = float(os.environ.get("PATIENCE", "1"))  # with a slow model
QUIET_S = 4.0 * PATIENCE


class Ear(FrameProcessor):
    """Keeps what comes by."""

    def __init__(self, told: dict, replied: asyncio.Queue, sounded: asyncio.Queue) -> None:
        super().__init__()
        self.told, self.replied, self.sounded = told, replied, sounded

    async def process_frame(self, frame: f.Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case f.TTSAudioRawFrame():
                self.told["audio_ms"] += len(frame.audio) / 48
                self.sounded.put_nowait(self.told["audio_ms"])
            case f.TTSTextFrame():
                self.told["said"].append(frame.text)
            case f.TranscriptionFrame():
                self.told["heard"].append(frame.text)
            case f.InterruptionFrame():
                self.told["cancelled"] = "turn_detected"
            case f.LLMFullResponseEndFrame():
                self.replied.put_nowait("end")
            case f.ErrorFrame():
                self.told["errors"].append(str(frame.error))
        await self.push_frame(frame, direction)


async def _silence(sounded: asyncio.Queue) -> None:
    """Until nothing was said for a while: an interruption ends a reply once or twice."""
    await sounded.get()
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(sounded.get(), QUIET_S)


async def main(scenario: str, address: str, pcm: bytes) -> dict:
    told: dict = {"heard": [], "said": [], "audio_ms": 0.0, "cancelled": "", "errors": []}
    replied: asyncio.Queue = asyncio.Queue()
    sounded: asyncio.Queue = asyncio.Queue()
    by_silence = events.TurnDetection(silence_duration_ms=500)
    turn_detection = {"client": False, "barge": by_silence}.get(scenario)  # None: by the state head
    input_ = events.AudioInput(transcription=events.InputAudioTranscription(), turn_detection=turn_detection)
    properties = events.SessionProperties(audio=events.AudioConfiguration(input=input_))
    service = OpenAIRealtimeLLMService(
        api_key="key", base_url=address.replace("http", "ws") + "/v1/realtime",
        settings=OpenAIRealtimeLLMService.Settings(model="icebreaker", session_properties=properties),
    )  # fmt: skip

    async def weather(params) -> None:
        told["call"] = ["weather", dict(params.arguments)]
        await params.result_callback("sunny")

    city = {"city": {"type": "string"}}
    schema = FunctionSchema(name="weather", description="Of a city.", properties=city, required=["city"])
    service.register_function("weather", weather)
    tools = {"tools": ToolsSchema([schema])} if scenario == "tool" else {}
    context = LLMContext(messages=[{"role": "user", "content": "hello"}], **tools)
    pair = LLMContextAggregatorPair(context)
    ears = Ear({**told, "said": []}, asyncio.Queue(), asyncio.Queue()), Ear(told, replied, sounded)
    pipeline = Pipeline([pair.user(), ears[0], service, ears[1], pair.assistant()])
    params = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
    task, runner = PipelineWorker(pipeline, params=params), WorkerRunner(handle_sigint=False)
    await runner.add_workers(task)
    run = asyncio.create_task(runner.run())

    async def speak() -> None:
        for start in range(0, len(pcm), 4800):
            await task.queue_frame(f.InputAudioRawFrame(pcm[start : start + 4800], RATE, 1))

    async with asyncio.timeout(60 * PATIENCE):
        await task.queue_frame(f.LLMContextFrame(context))
        await replied.get()  # to the text that pipecat begins with
        if scenario == "tool":
            await replied.get()
        else:
            if scenario == "client":
                await task.queue_frame(f.UserStartedSpeakingFrame())
            await speak()
            if scenario == "client":
                await task.queue_frame(f.UserStoppedSpeakingFrame())
            if scenario == "barge":
                start_ms = told["audio_ms"]
                while told["audio_ms"] < start_ms + ENOUGH_MS:
                    await sounded.get()
                await speak()
            await _silence(sounded)
        await asyncio.sleep(0.3)
        await task.cancel()
        await run
    return told


if __name__ == "__main__":
    address, sound, *scenarios = sys.argv[1:]
    print(json.dumps({each: asyncio.run(main(each, address, Path(sound).read_bytes())) for each in scenarios}))

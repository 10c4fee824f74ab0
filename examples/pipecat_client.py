"""Ask a recorded question in a Pipecat pipeline: pip install "pipecat-ai[openai]" soundfile"""

import asyncio
import sys

import soundfile
from pipecat.frames.frames import Frame, InputAudioRawFrame, LLMFullResponseEndFrame, TTSTextFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.realtime.llm import OpenAIRealtimeLLMService
from pipecat.workers.runner import WorkerRunner


class Printer(FrameProcessor):
    """Prints what is said, and ends with it."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """One frame comes by."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSTextFrame):
            print(frame.text, end="", flush=True)
        elif isinstance(frame, LLMFullResponseEndFrame):
            print()
            await self.pipeline_worker.cancel()
        await self.push_frame(frame, direction)


async def main(server: str = "http://localhost:8000", question: str = "examples/question.wav") -> None:
    """Print the answer."""
    pcm, rate = soundfile.read(question, dtype="int16")
    service = OpenAIRealtimeLLMService(api_key="any", base_url=server.replace("http", "ws", 1) + "/v1/realtime")
    worker, runner = PipelineWorker(Pipeline([service, Printer()])), WorkerRunner(handle_sigint=False)
    await worker.queue_frame(InputAudioRawFrame(pcm.tobytes() + bytes(6 * rate), rate, 1))  # it goes on
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

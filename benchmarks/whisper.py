"""Ears of LLaMA-Omni at the published size (large-v3), one thread: log-mel, encoder and adaptor of 30 s.

Random weights, float32; CPU seconds (least of the rounds) and wall seconds, beside the figures of the reference
implementation on another machine (Intel Xeon with AVX-512 and AMX).

    OMP_NUM_THREADS=1 python benchmarks/whisper.py [--rounds 1]
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import nn

from icebreaker.audio.whisper_mel import MAX_SAMPLES, WhisperMel
from icebreaker.models.speech_adaptor import SpeechAdaptor, SpeechAdaptorConfig
from icebreaker.models.whisper_encoder import WhisperConfig, WhisperEncoder

REFERENCE_CPU_S = {"log-mel": 0.009, "encoder": 16.5, "adaptor": 0.084}


def filled(module: nn.Module) -> nn.Module:
    """Values for a module built on meta, quickly."""
    module = module.to_empty(device="cpu").eval().requires_grad_(False)
    noise = torch.randn(1 << 20) * 0.02
    for weight in [*module.parameters(), *module.buffers()]:
        weight.copy_(noise.repeat(-(-weight.numel() // len(noise)))[: weight.numel()].view(weight.shape))
    return module


def report(step: str, work: Callable[[], object], rounds: int) -> None:
    found = []
    for _ in range(rounds):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        found.append((time.process_time() - cpu, time.perf_counter() - wall))
    figures = {"cpu_s": min(c for c, _ in found), "wall_s": min(w for _, w in found)}
    rounded = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"step": step, **rounded, "reference_cpu_s": REFERENCE_CPU_S[step]}), flush=True)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    mel, config = WhisperMel(128), WhisperConfig()
    waveform, log_mel = torch.randn(1, MAX_SAMPLES) * 0.1, torch.randn(1, 3000, 128)
    with torch.device("meta"):
        encoder = WhisperEncoder(config)
        adaptor = SpeechAdaptor(SpeechAdaptorConfig(encoder_dim=config.width, llm_dim=4096))
    encoder, adaptor = filled(encoder), filled(adaptor)
    mel(waveform)
    report("log-mel", lambda: mel(waveform), 5)
    report("adaptor", lambda: adaptor.whole(torch.zeros(1, config.frames, config.width)), 3)
    report("encoder", lambda: encoder(log_mel), rounds)


if __name__ == "__main__":
    main()

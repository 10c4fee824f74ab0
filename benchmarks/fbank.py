"""How fast the log-mel features are: ours, kaldi-native-fbank and a frame-by-frame loop.

Run as ``python benchmarks/fbank.py``; it exits with 1 if ours falls below the floor, times faster than real time.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import kaldi_native_fbank
import numpy as np
import torch
from torch import Tensor

from icebreaker.audio.fbank import CHUNK_SAMPLES, HOP_LENGTH, MEL_BINS, SAMPLE_RATE, WINDOW_LENGTH, Fbank

FLOOR_OFFLINE = 200.0  # one busy, slow core makes about 450
FLOOR_STREAMING = 100.0  # one busy, slow core makes about 540


def ours(module: Fbank, waveform: Tensor) -> Tensor:
    return module.offline(waveform)


def streamed(module: Fbank, waveform: Tensor) -> Tensor:
    state, outputs = module.initial_state(len(waveform)), []
    for piece in waveform.split(CHUNK_SAMPLES, dim=1):
        frames, state = module(piece, state)
        outputs.append(frames)
    return torch.cat(outputs, dim=1)


def frame_by_frame(module: Fbank, waveform: Tensor) -> Tensor:
    starts = range(0, waveform.shape[1] - WINDOW_LENGTH + 1, HOP_LENGTH)
    return torch.cat([module.offline(waveform[:, start : start + WINDOW_LENGTH]) for start in starts], dim=1)


def kaldi(waveform: Tensor) -> Tensor:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = MEL_BINS
    rows = []
    for row in (waveform * 32768).numpy():
        extractor = kaldi_native_fbank.OnlineFbank(options)
        extractor.accept_waveform(SAMPLE_RATE, row)
        extractor.input_finished()
        rows.append(np.stack([extractor.get_frame(index) for index in range(extractor.num_frames_ready)]))
    return torch.from_numpy(np.stack(rows))


def median_s(function: Callable[[], Tensor], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first one warms up


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=9.6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    samples = round(arguments.seconds * SAMPLE_RATE) // CHUNK_SAMPLES * CHUNK_SAMPLES
    waveform = torch.randn(arguments.batch, samples, generator=torch.Generator().manual_seed(0)) * 0.1
    module = Fbank()
    contenders: dict[str, Callable[[], Tensor]] = {
        "ours, whole recordings": lambda: ours(module, waveform),
        "ours, 160 ms blocks": lambda: streamed(module, waveform),
        "kaldi-native-fbank": lambda: kaldi(waveform),
        "frame by frame": lambda: frame_by_frame(module, waveform),
    }
    audio_s = arguments.batch * samples / SAMPLE_RATE
    speeds = {}
    with torch.inference_mode():
        difference = (ours(module, waveform) - kaldi(waveform)).abs().max()
        for name, function in contenders.items():
            seconds = median_s(function, arguments.repeats)
            speeds[name] = audio_s / seconds
            print(f"{name:24} {1000 * seconds:8.1f} ms for {audio_s:.0f} s of audio: {speeds[name]:7.0f} x real time")
    print(f"largest difference to kaldi-native-fbank: {difference:.1e} (log units)")
    slow = speeds["ours, whole recordings"] < FLOOR_OFFLINE or speeds["ours, 160 ms blocks"] < FLOOR_STREAMING
    if slow:
        print(f"below the floor of {FLOOR_OFFLINE:.0f} (whole recordings) or {FLOOR_STREAMING:.0f} (blocks)")
    return int(slow or difference > 2e-3)


if __name__ == "__main__":
    sys.exit(main())

"""The bundled mini model on the recorded question: real-time factor, latency by part, peak memory, start of the CLI.

Whole processes, as a user starts them; medians over the runs. Real-time factors below 1 mean that nobody waits: for
listening it is computing time over the question's length, for speaking over the answer's.

    python benchmarks/mini.py [--runs 5] [--threads 1]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

QUESTION = Path(__file__).parents[1] / "examples" / "question.wav"


def call(*arguments: str) -> tuple[str, float]:
    """Standard output and wall seconds of one ``icebreaker`` command."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "icebreaker", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", default="1")
    options = parser.parse_args()
    help_s = statistics.median(call("--help")[1] for _ in range(options.runs))
    reports = [
        json.loads(call("talk", str(QUESTION), "--json", "--threads", options.threads)[0]) for _ in range(options.runs)
    ]
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024

    def median(values: list[float]) -> float:
        return statistics.median(values)

    print(
        f"question {reports[0]['question_s']:.2f} s, answer {reports[0]['answer_s']:.2f} s, {options.threads} thread(s)"
    )
    print(f"listening, real-time factor  {median([r['listening_ms'] / 1000 / r['question_s'] for r in reports]):7.3f}")
    print(f"speaking, real-time factor   {median([r['real_time_factor'] for r in reports]):7.3f}")
    for name in reports[0]["latency_ms"]:
        print(f"{name:<28} {median([r['latency_ms'][name] for r in reports]):7.0f} ms")
    print(f"peak memory                  {peak_mib:7.0f} MiB")
    print(f"icebreaker --help            {help_s:7.2f} s")


if __name__ == "__main__":
    main()

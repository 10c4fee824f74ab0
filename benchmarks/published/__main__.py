"""Published sizes, random weights: by part and end to end, beside floors and beside a plain pipeline, in one run.

    python -m benchmarks.published --size 7b                       # on a GPU, in under eight minutes
    python -m benchmarks.published --size 0.5b --device cpu --batches 1 4 --contexts 512
    python -m benchmarks.published --size tiny --device cpu        # tries the script out, in seconds

Prints Markdown; ``--json`` and ``--markdown`` name files for both. Tables come in the order of their worth, and what
does not fit into ``--minutes`` is named at the end.
"""

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.published.first_audio import compare, many
from benchmarks.published.machine import Machine, probe
from benchmarks.published.parts import Row, decode_ticks, listening, omni_parts, prefills, served, speaking
from benchmarks.published.report import markdown
from benchmarks.published.sessions import ages, crowds
from benchmarks.published.shapes import SHAPES, llm, omni, parts
from icebreaker.evaluation.provenance import machine_facts
from icebreaker.nn.packed import pack_linears

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SPARE_BYTES = 2 << 30  # left alone, for everything but weights and caches
FIRST_CONTEXT = 1024  # LLM positions of the conversation whose first audio is measured: two minutes
CLOCKS = {
    "cpu": "Times are CPU time of one thread, so neighbours disturb them little but not at all.",
    "cuda": "Times are real time up to the end of the work, launching included.",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="7b")
    parser.add_argument("--layers", type=int, help="LLM layers, where all of them do not fit; the report says so")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--replies", type=int, default=8, help="of the eight whose first audio is measured")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no new measurement begins")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--patience", type=float, default=1.0, help="seconds on one measurement")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


class Bench:
    """One run: what it runs on, how long it may go on, and what it has found."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.began = options, time.perf_counter()
        self.device = torch.device(options.device)
        dtype = options.dtype or ("bfloat16" if self.device.type == "cuda" else "float32")
        self.shape = SHAPES[options.size].cut(options.layers)
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        self.machine: Machine = probe(self.device, DTYPES[dtype], options.rounds, options.patience)
        self.found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*TABLES, "many", "crowds")}
        self.left_out: list[str] = []

    def in_time(self) -> bool:
        """Whether another measurement may begin."""
        return time.perf_counter() - self.began < 60 * self.options.minutes

    def fits(self, needed: int) -> bool:
        """Whether so many bytes are free; where they are not, the report says so."""
        fits = self.shape.small or needed + SPARE_BYTES < free_bytes(self.device)
        if not fits:
            self.left_out.append(f"a cache of {needed / 1e9:.1f} GB, for want of memory")
        return fits

    def take(self, table: str, rows: Iterator[Any]) -> None:
        """Run the measurements of a table one after the other, as far as time goes."""
        for row in rows:
            self.found[table].append(asdict(row) | {"share": row.share} if isinstance(row, Row) else row)
            print(f"{time.perf_counter() - self.began:6.0f} s  {table}", file=sys.stderr, flush=True)
            if not self.in_time():
                self.left_out.append(f"the rest of {table}, for want of time")
                return

    @torch.no_grad()
    def run(self) -> None:
        """All tables asked for."""
        for table in self.options.tables:
            if self.in_time():
                TABLES[table](self)
            else:
                self.left_out.append(f"{table}, for want of time")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def report(self) -> dict[str, Any]:
        """Everything, plain."""
        machine = self.machine
        return {
            "shape": self.shape.name,
            "weights": "Trained" if self.shape.bundle else "Random",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "python -m benchmarks.published " + " ".join(sys.argv[1:]),
            "where": machine_facts(),
            "machine": {
                "dtype": str(machine.dtype).removeprefix("torch."),
                "gb_per_s": machine.bytes_per_s / 1e9,
                "tflops": machine.flops / 1e12,
                "float32_tflops": machine.float32_flops / 1e12,
                "clock": CLOCKS[self.device.type],
            },
            "seconds": time.perf_counter() - self.began,
            "left_out": self.left_out,
            **self.found,
            "parts": [*self.found["llm"], *self.found["parts"]],
        }


def free_bytes(device: torch.device) -> int:
    """Memory that is left on the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    available = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
    return available[0] if available else os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def first_audio(bench: Bench) -> None:
    """End to end, beside the plain pipeline, and many at once."""
    if bench.shape.family != "qwen2":
        bench.left_out.append("first audio: only the Freeze-Omni shapes have a plain pipeline to compare with")
        return
    whole = parts(bench.shape, bench.device, bench.machine.dtype)
    bench.take("first_audio", compare(whole, FIRST_CONTEXT, bench.machine, bench.options.replies, bench.in_time))
    crowd = (n for n in bench.options.batches if n in (8, 16, 32))
    bench.take("many", (many(whole, FIRST_CONTEXT, n, bench.machine) for n in crowd))


def of_the_llm(bench: Bench) -> None:
    """The LLM alone."""
    shape, options = bench.shape, bench.options
    bundled = parts(shape, bench.device, bench.machine.dtype).llm if shape.bundle else None
    language = bundled or llm(shape, bench.device, bench.machine.dtype)
    batches, contexts = tuple(options.batches), tuple(options.contexts)
    bench.take("llm", decode_ticks(language, bench.machine, batches, contexts, bench.fits))
    bench.take("llm", prefills(language, bench.machine, (16, 256)))


def around_the_llm(bench: Bench) -> None:
    """The parts around it."""
    device, dtype, batches = bench.device, bench.machine.dtype, tuple(bench.options.batches)
    if bench.shape.family == "llama":
        bench.take("parts", omni_parts(omni(bench.shape, device, dtype), bench.machine, batches[:2]))
        return
    whole = parts(bench.shape, device, dtype)
    bench.take("parts", speaking(whole, bench.machine, batches))
    bench.take("parts", listening(whole, bench.machine, batches))
    if device.type == "cpu":
        bench.take("parts", _packed(whole, bench.machine, batches))


def _packed(whole: Any, machine: Machine, batches: tuple[int, ...]) -> Iterator[Row]:
    """The encoder as it is served on a CPU."""
    size = sum(p.numel() * p.element_size() for p in whole.encoder.parameters())
    pack_linears(whole.encoder, "float32")
    for row in listening(whole, machine, batches):
        if row.part.startswith("encoder"):
            floor = max(row.floor_ms, 1e3 * size / machine.bytes_per_s)
            yield Row("encoder packed, 160 ms", row.batch, 0, row.ms, row.median_ms, floor, "memory")


def old_age(bench: Bench) -> None:
    """By age and by number."""
    if bench.shape.family != "qwen2":
        return
    whole = served(parts(bench.shape, bench.device, bench.machine.dtype))
    bench.take("ages", ages(whole, bench.machine, bench.fits))
    bench.take("crowds", crowds(whole, bench.machine, tuple(bench.options.batches), bench.fits))


TABLES: dict[str, Callable[[Bench], None]] = {
    "first_audio": first_audio,
    "llm": of_the_llm,
    "parts": around_the_llm,
    "ages": old_age,
}


def main() -> None:
    options = arguments()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA device here: this table is for a GPU. To try the script out: --size tiny --device cpu")
    bench = Bench(options)
    bench.run()
    report = bench.report()
    text = markdown(report)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))
    if options.markdown:
        options.markdown.write_text(text)


if __name__ == "__main__":
    main()

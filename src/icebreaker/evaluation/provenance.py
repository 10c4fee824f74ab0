"""What a figure depends on: commit, model hash, machine, threads. Knows nothing of what is measured."""

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from icebreaker.checkpoints.find import find_model
from icebreaker.models.llm_folder import folder_sha256

__all__ = ["StolenTime", "machine_facts", "model_sha256"]

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".bin", ".json", ".yaml")
BLOCK = 1 << 20


def model_sha256(model: str | Path, llm: Path | None = None, others: Sequence[Path] = ()) -> str:
    """SHA-256 over names and bytes of all weights and configurations: of ``model``, its LLM, and others where given."""
    folder, digest = find_model(model), hashlib.sha256()
    for place in (folder, *others):
        _add(digest, place)
    if llm is not None:
        digest.update(folder_sha256(llm).encode())
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", place: Path) -> None:
    """The weights and configurations of a folder, or one file."""
    found = [place] if place.is_file() else [path for path in place.rglob("*") if path.suffix in WEIGHT_SUFFIXES]
    for file in sorted(path for path in found if path.is_file()):
        digest.update(f"{file.relative_to(place)}\n".encode())
        with file.open("rb") as opened:
            while block := opened.read(BLOCK):
                digest.update(block)


def machine_facts() -> dict[str, Any]:
    """Where and with what this runs."""
    return {
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


class StolenTime:
    """How much of the processors' time a virtual machine was refused since this was made, because its host was busy.

    Figures in real time that were taken meanwhile are partly the host's.
    """

    def __init__(self, path: Path = Path("/proc/stat")) -> None:
        self._path = path
        self._before = self._read()

    @property
    def percent(self) -> float | None:
        """Of the time of all processors; None where the system does not say."""
        now = self._read()
        if self._before is None or now is None or now[1] == self._before[1]:
            return None
        return 100 * (now[0] - self._before[0]) / (now[1] - self._before[1])

    def _read(self) -> tuple[int, int] | None:
        """Stolen and all time so far, in ticks (proc_stat(5)); guests' time is counted as their users' already."""
        try:
            times = [int(field) for field in self._path.read_text().splitlines()[0].split()[1:9]]
            return times[7], sum(times)
        except (OSError, ValueError, IndexError):
            return None


def _commit() -> str:
    """Of the checkout this code lies in; with a plus where its tracked files were changed."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--abbrev=12",
        "--exclude=*",
        "--dirty=+",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"

"""Scenes: what the user says and when, and what is in the air. JSON lines on disk; knows nothing of systems.

``scenes.jsonl`` has one scene a line, beside the folder of its recordings (16 kHz mono). A part begins at a fixed time
or waits for the assistant, so that an interruption meets speech whatever the system's pace.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icebreaker.data.aside import written_aside
from icebreaker.errors import DataError
from icebreaker.evaluation.duplex.metrics import Word

__all__ = ["KINDS", "Cue", "Echo", "Part", "Scene", "read_scenes", "write_scenes"]

KINDS = {
    "turn": "a complete turn",
    "pause": "a pause in the middle of a sentence",
    "hesitation": "an um and a pause in the middle of a sentence",
    "interruption": "the user takes the turn while the assistant speaks",
    "backchannel": "the user says uh-huh while the assistant speaks",
    "noise": "noise while nobody speaks",
    "noise while speaking": "noise while the assistant speaks",
    "echo": "the assistant's own voice at the microphone",
    "monologue": "the user speaks at length",
}
ROLES = ("question", "rest", "interruption", "backchannel", "noise", "ask back")


@dataclass(frozen=True, kw_only=True)
class Cue:
    """When a part begins. Without any of the first three: at once.

    Attributes:
        at_s: at this time of the scene.
        speaking_s: when so much of the assistant's newest reply has been heard.
        silent_s: so long after the assistant has finished.
        latest_s: but no later than this after the end of the part before.
    """

    at_s: float | None = None
    speaking_s: float | None = None
    silent_s: float | None = None
    latest_s: float = 6.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """One recording at the user's microphone.

    Attributes:
        role: what it is in the scene.
        audio: its file.
        words: what is said in it and when, from its own start; none in noise.
        cue: when it begins.
    """

    role: str
    audio: Path
    words: tuple[Word, ...] = ()
    cue: Cue = Cue()


@dataclass(frozen=True, kw_only=True)
class Echo:
    """The assistant's voice comes back to the microphone, so much later and softer."""

    delay_ms: float
    level_db: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One dialogue, as far as the user's side goes.

    Attributes:
        id: unique, and usable as a file name.
        kind: one of ``KINDS``; how it is scored.
        parts: in the order they begin.
        tail_s: listened to after the last part, at most.
        voice: who speaks.
        echo: whether the assistant hears itself.
        about: what else sets it apart, for tables.
    """

    id: str
    kind: str
    parts: tuple[Part, ...]
    tail_s: float = 6.0
    voice: str = ""
    echo: Echo | None = None
    about: str = ""

    def part(self, role: str) -> int:
        """The place of the last part of that role.

        Raises:
            ValueError: it has none.
        """
        return max(index for index, part in enumerate(self.parts) if part.role == role)


def write_scenes(path: Path, scenes: Iterable[Scene]) -> None:
    """Write ``scenes`` aside, then put the complete file in place.

    Raises:
        DataError: the disk is full; what was there before is whole.
    """
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        for scene in scenes:
            values = asdict(scene)
            for part in values["parts"]:
                part["audio"] = os.path.relpath(part["audio"], path.parent)
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_scenes(path: Path) -> list[Scene]:
    """The scenes of ``path``; audio paths come out complete.

    Raises:
        DataError: the file is missing, a line does not fit, ids are not unique, or recordings are missing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot read these scenes: {error}; build them with `icebreaker eval scenes`"
        ) from error
    scenes = [_parse(line, f"{path}:{number}", path.parent) for number, line in enumerate(lines, start=1)]
    if len({scene.id for scene in scenes}) < len(scenes):
        raise DataError(f"{path}: scenes share an id; build them anew")
    missing = [str(part.audio) for scene in scenes for part in scene.parts if not part.audio.is_file()]
    if missing:
        raise DataError(f"{path}: {len(missing)} recordings are missing, such as {', '.join(missing[:10])}")
    return scenes


def _parse(line: str, where: str, folder: Path) -> Scene:
    try:
        values: dict[str, Any] = json.loads(line)
        parts = tuple(
            Part(
                role=part["role"], audio=folder / part["audio"], words=tuple(Word(*word) for word in part["words"]),
                cue=Cue(**part["cue"]),
            )
            for part in values.pop("parts")
        )  # fmt: skip
        echo = values.pop("echo", None)
        scene = Scene(**values, parts=parts, echo=None if echo is None else Echo(**echo))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: expected a scene, got {line[:80]!r} ({error}); build the scenes anew") from error
    if scene.kind not in KINDS or not scene.parts or any(part.role not in ROLES for part in scene.parts):
        raise DataError(f"{where}: expected a kind of {', '.join(KINDS)} and parts with roles {', '.join(ROLES)}")
    return scene

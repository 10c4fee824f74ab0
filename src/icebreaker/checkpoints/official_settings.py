"""``server.json`` and the chat template of an official checkpoint as dialogue settings, and back. Opens no weights."""

import re
from pathlib import Path
from typing import Any

from icebreaker.checkpoints.official_config import read_json
from icebreaker.dialogue.parts import DialogueSettings, WaveOutConfig
from icebreaker.errors import CheckpointError
from icebreaker.models.sampling import SamplingConfig
from icebreaker.text.segment import SegmenterConfig

__all__ = ["official_settings", "server_json", "system_prompt"]

CHATML = re.compile(
    r"<\|im_start\|>system\n(?P<system>.*?)<\|im_end\|>\n"
    r"<\|im_start\|>user\n<audio><\|im_end\|>\n<\|im_start\|>assistant\n",
    re.DOTALL,
)
KEYS = {
    "decoder_first_chunk_size", "decoder_chunk_size", "decoder_chunk_overlap_size", "decoder_top_k",
    "decoder_penalty_window_size", "decoder_penalty", "decoder_N", "decoder_seg_threshold_first_pack",
    "decoder_seg_threshold",
}  # fmt: skip
PREROLL_CHUNKS = 6  # of 160 ms, before the start of speech
# The official shell scripts' values; top_p drops the id that crosses it, too.
TEXT = SamplingConfig(temperature=0.8, top_k=20, top_p=0.8, top_p_rule="official")


def official_settings(path: Path, chat_template: str | None) -> DialogueSettings:
    """Settings that speak as the official server does.

    Raises:
        CheckpointError: ``path`` is missing, has other entries, or the template is not ChatML.
    """
    values = read_json(path)
    if not isinstance(values, dict) or values.keys() != KEYS:
        odd = sorted(KEYS ^ (values.keys() if isinstance(values, dict) else set()))
        raise CheckpointError(f"{path}: expected the nine official decoder_* entries; {odd[0]} is on one side only")
    try:
        return DialogueSettings(
            system=system_prompt(chat_template, str(path.parent / "audiollm" / "train.yaml")),
            text=TEXT,
            speech=SamplingConfig(
                top_k=values["decoder_top_k"],
                repetition_penalty=values["decoder_penalty"],
                penalty_rule="official",
                penalty_window=values["decoder_penalty_window_size"],
            ),
            segmenter=SegmenterConfig(rule="official_server"),
            spoken="official",
            wave_out=WaveOutConfig(
                rule="official",
                first_chunk=values["decoder_first_chunk_size"],
                chunk=values["decoder_chunk_size"],
                overlap=values["decoder_chunk_overlap_size"],
                window=values["decoder_N"],
                first_threshold=values["decoder_seg_threshold_first_pack"],
                threshold=values["decoder_seg_threshold"],
                trim_start=True,
            ),
            preroll_chunks=PREROLL_CHUNKS,
            transcribe=False,
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def server_json(settings: DialogueSettings) -> dict[str, Any]:
    """The official ``server.json`` that says what ``settings`` say about speech."""
    wave_out, speech = settings.wave_out, settings.speech
    return {
        "decoder_first_chunk_size": wave_out.first_chunk,
        "decoder_chunk_size": wave_out.chunk,
        "decoder_chunk_overlap_size": wave_out.overlap,
        "decoder_top_k": speech.top_k,
        "decoder_penalty_window_size": speech.penalty_window,
        "decoder_penalty": speech.repetition_penalty,
        "decoder_N": wave_out.window,
        "decoder_seg_threshold_first_pack": wave_out.first_threshold,
        "decoder_seg_threshold": wave_out.threshold,
    }


def system_prompt(chat_template: str | None, where: str) -> str:
    """The system text in the official chat template.

    Raises:
        CheckpointError: there is none, or it is no ChatML with one ``<audio>``.
    """
    found = CHATML.fullmatch(chat_template or "")
    if found is None:
        raise CheckpointError(f"{where}: expected a ChatML chat_template with one <audio>, got {chat_template!r}")
    return found["system"]

"""From a TOML file to the stage it names. Knows every stage, and nothing of what they do."""

import logging
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from icebreaker.config import load_toml
from icebreaker.data.recording import Progress
from icebreaker.errors import ConfigError
from icebreaker.training import (
    adapter_ctc,
    alignment,
    backbone,
    codec,
    codec_lm,
    codec_lm_prefix,
    encoder_ctc,
    heard_text,
    ngram,
    speech_instruct,
    spoken_qa,
    unit_ctc,
    unit_extraction,
    unit_vocoder,
)
from icebreaker.training.devices import device_of, named
from icebreaker.training.dry_run import DryRun, check_data, dry_run
from icebreaker.training.loop import StepReport
from icebreaker.training.processes import is_main, main_first, world
from icebreaker.training.run import begun

__all__ = ["STAGES", "rehearse", "run", "stage_name"]

logger = logging.getLogger(__name__)

STAGES: dict[str, tuple[type[Any], Callable[..., None]]] = {
    "backbone": (backbone.BackboneConfig, backbone.run),
    "heard_text": (heard_text.HeardTextConfig, heard_text.run),
    "ngram": (ngram.NGramTrainingConfig, ngram.run),
    "encoder_ctc": (encoder_ctc.EncoderCTCConfig, encoder_ctc.run),
    "adapter_ctc": (adapter_ctc.AdapterCTCConfig, adapter_ctc.run),
    "alignment": (alignment.AlignmentConfig, alignment.run),
    "spoken_qa": (spoken_qa.SpokenQAConfig, spoken_qa.run),
    "codec": (codec.CodecTrainingConfig, codec.run),
    "codec_lm": (codec_lm.CodecLMTrainingConfig, codec_lm.run),
    "codec_lm_prefix": (codec_lm_prefix.CodecLMPrefixConfig, codec_lm_prefix.run),
    "speech_instruct": (speech_instruct.SpeechInstructConfig, speech_instruct.run),
    "unit_ctc": (unit_ctc.UnitCTCTrainingConfig, unit_ctc.run),
    "units": (unit_extraction.UnitExtractionConfig, unit_extraction.run),
    "unit_vocoder": (unit_vocoder.UnitVocoderTrainingConfig, unit_vocoder.run),
}
ALONE = ("units", "heard_text", "ngram")


def run(path: Path, overrides: Sequence[str], progress: Callable[[StepReport], None]) -> None:
    """Train the stage that ``path`` configures, from where it last stopped.

    Its manifests are checked before the first step; a run that is resumed was checked when it began. Under ``torchrun``
    this is called within ``processes``.

    Raises:
        ConfigError: the file does not fit a stage, or asks for a GPU that is not there.
        DataError: a manifest has problems.
    """
    name = stage_name(path)
    config_class, train = STAGES[name]
    if name in ALONE and world() > 1:
        raise ConfigError(f"{path}: stage {name} trains nothing and runs in one process; start it without torchrun")
    config = load_toml(path, config_class, overrides)
    logger.info("stage %s on %s", name, named(device_of(config)))
    if not begun(Path(config.output)):
        with main_first():
            if is_main():
                check_data(config)
    train(config, progress)


def rehearse(path: Path, overrides: Sequence[str], progress: Progress) -> DryRun:
    """Look for what would stop ``run``, and take two steps without saving; ``progress`` counts recordings.

    Raises:
        ConfigError: the file does not fit a stage.
    """
    config_class, train = STAGES[stage_name(path)]
    return dry_run(load_toml(path, config_class, overrides), train, progress)


def stage_name(path: Path) -> str:
    """The stage that ``path`` configures.

    Raises:
        ConfigError: the file is missing, not TOML, or names no stage.
    """
    try:
        name = tomllib.loads(path.read_text()).get("stage")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable as TOML: {error}") from error
    if name not in STAGES:
        raise ConfigError(f"{path}: expected stage = one of {', '.join(STAGES)}, got {name!r}")
    return str(name)

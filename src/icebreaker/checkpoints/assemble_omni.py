"""Puts the outputs of LLaMA-Omni's training stages together into one bundle. Trains nothing, takes only what fits.

    runs/mini-llama-omni/{speech_instruct, ngram, unit_ctc, unit_vocoder}, and the encoder that it heard with
    ->  bundle

The LLM is the one that stage ``speech_instruct`` left, or named where it stayed frozen. An encoder of ours only:
Whisper's is not ours to hand on.
"""

from pathlib import Path

from torch import Tensor

from icebreaker.checkpoints.bundle import BundleConfig, Storage, write_bundle
from icebreaker.checkpoints.card import model_card
from icebreaker.checkpoints.modules import LANGUAGE
from icebreaker.checkpoints.omni_modules import OmniModelConfig
from icebreaker.checkpoints.stage_folders import (
    Stage,
    check_one_llm,
    earlier_card,
    find_stage,
    llm_reference,
    read_stage,
    sizes_together,
    stage_records,
    weights_of,
)
from icebreaker.dialogue.parts import DialogueSettings
from icebreaker.errors import CheckpointError
from icebreaker.models.chat import DEFAULT_SYSTEM, OMNI_SYSTEM
from icebreaker.nn.weights import tensors_sha256

__all__ = ["assemble_omni", "is_omni_runs"]

SOURCES = {"adaptor": "speech_instruct", "unit_ctc": "unit_ctc", "vocoder": "unit_vocoder"}
CONFIGS = "configs/mini-llama-omni"
RUNS = ("units", "speech_instruct", "ngram", "unit_ctc", "unit_vocoder")  # in the model card, where they are there
EARLIER = ("backbone_text", "backbone", "backbone_heard", "backbone_more")  # beside the LLM's folder, likewise


def is_omni_runs(folder: Path) -> bool:
    """Whether ``folder`` holds the outputs of LLaMA-Omni's training stages."""
    return (folder / "speech_instruct").is_dir() or (folder / "unit_ctc").is_dir()


def assemble_omni(
    runs: Path,
    out: Path,
    *,
    llm: Path | None = None,
    settings: DialogueSettings | None = None,
    storage: Storage = "float16",
    embed_llm: bool = True,
    name: str = "Icebreaker mini LLaMA-Omni",
) -> None:
    """Write the bundle ``out`` from the stage folders under ``runs``.

    Args:
        runs: folder of the stages, such as ``runs/mini-llama-omni``.
        out: where the bundle goes.
        llm: the LLM; default: the one of stage ``speech_instruct``.
        settings: how the bundle is used unless its user says otherwise; default: the package's, with the system prompt
            of the training.
        storage: floating-point type of the stored weights.
        embed_llm: whether the LLM comes along.
        name: title of the model card.

    Raises:
        CheckpointError: a stage is missing or unfinished, or two do not belong together.
    """
    stages = {part: find_stage(runs, (stage,), CONFIGS) for part, stage in SOURCES.items()}
    if (counted := read_stage(runs / "ngram")) is not None:
        stages[LANGUAGE] = counted
    heard = stages["adaptor"]
    llm_folder = llm or _trained_llm(heard)
    stages["encoder"] = _ears(heard)
    weights = weights_of(stages)
    _check_ears(heard, weights)
    # The encoder may have learnt with another LLM: the adaptor reads its frames, and the LLM may have been tuned since.
    check_one_llm([stage for part, stage in stages.items() if part != "encoder"], llm_folder)
    model = _model_config(stages)
    reference = llm_reference(llm_folder, model.llm_dim, embed=embed_llm)
    settings = settings or DialogueSettings(system=_system(heard))
    config = BundleConfig(model=model, llm=reference, settings=settings, family="llama-omni")
    earlier = [llm_folder.parents[1] / stage for stage in EARLIER] if llm is None else []
    folders = [*earlier, stages["encoder"].folder, *(runs / stage for stage in RUNS)]
    card = model_card(name, stage_records(folders), config, weights, earlier_card(runs))
    write_bundle(out, config, weights, card, storage=storage, llm_folder=llm_folder)


def _trained_llm(heard: Stage) -> Path:
    """A tuned LLM lies in the stage's own folder, a frozen one where the stage found it."""
    tuned = heard.folder / "llm"
    folder = tuned if tuned.is_dir() else Path(heard.entry("llm"))
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: the LLM of {heard.folder} is not there; give its folder with --llm")
    return folder


def _ears(heard: Stage) -> Stage:
    if heard.config.get("encoder") is None:
        raise CheckpointError(
            f"{heard.folder} hears with Whisper's encoder; only encoders of ours become bundles of training runs"
        )
    folder = Path(heard.entry("encoder"))
    if (stage := read_stage(folder)) is None:
        raise CheckpointError(f"{folder}: the encoder that {heard.folder} hears with is not there; train it first")
    return stage


def _check_ears(heard: Stage, weights: dict[str, Tensor]) -> None:
    """The encoder must be, to the bit, the one that the adaptor was trained with."""
    encoder = {name.partition(".")[2]: value for name, value in weights.items() if name.startswith("encoder.")}
    if tensors_sha256(encoder) != heard.entry("encoder_sha256"):
        raise CheckpointError(
            f"{heard.entry('encoder')}: the encoder was trained on since {heard.folder} heard with it; run stage "
            "speech_instruct again"
        )


def _model_config(stages: dict[str, Stage]) -> OmniModelConfig:
    heard, ears = stages["adaptor"], stages["encoder"]
    values = {
        "encoder": ears.config.get("encoder_config") or ears.entry("encoder"),
        "adaptor": heard.entry("adaptor"),
        "unit_ctc": stages["unit_ctc"].entry("model"),
        "vocoder": stages["vocoder"].entry("model"),
        "chat": heard.entry("chat"),
        "instruction": heard.entry("instruction"),
    }
    if LANGUAGE in stages:
        values[LANGUAGE] = stages[LANGUAGE].entry(LANGUAGE)
    return sizes_together(OmniModelConfig, values)


def _system(heard: Stage) -> str:
    system = heard.config.get("system")
    default = OMNI_SYSTEM if heard.entry("chat") == "llama-omni" else DEFAULT_SYSTEM
    return default if system is None else str(system)

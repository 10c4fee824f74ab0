"""From what a user names to the parts of a dialogue: 'mini', a bundle folder, or the official checkpoints."""

from pathlib import Path

import torch

from icebreaker.checkpoints.bundle import is_bundle, load_bundle
from icebreaker.checkpoints.families import AnyParts
from icebreaker.checkpoints.freeze_omni import is_official, load_official
from icebreaker.checkpoints.llama_omni import is_llama_omni, load_llama_omni
from icebreaker.errors import CheckpointError

__all__ = ["find_model", "load_parts"]

BUNDLED = Path(__file__).parents[1] / "bundles"  # inside the package, so that an installed wheel has it, too


def find_model(name: str | Path) -> Path:
    """The folder that ``name`` means: that of a bundle that ships with the package, or a path.

    Raises:
        CheckpointError: there is neither.
    """
    shipped = sorted(path.name for path in BUNDLED.iterdir()) if BUNDLED.is_dir() else []
    if str(name) in shipped:
        return BUNDLED / name
    if Path(name).is_dir():
        return Path(name)
    known = ", ".join(shipped) or "none"
    raise CheckpointError(
        f"{name}: neither a folder nor a bundle that ships with this package ({known}); give a bundle folder, "
        "or the official checkpoints folder together with --llm"
    )


def load_parts(
    name: str | Path,
    llm: Path | None = None,
    *,
    speech_encoder: Path | None = None,
    vocoder: Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> AnyParts:
    """Load whatever ``name`` is.

    Args:
        name: 'mini', a bundle folder, or the official checkpoints folder of either family.
        llm: Hugging Face folder of the frozen LLM, where the model does not bring it.
        speech_encoder: Whisper file or folder, for official LLaMA-Omni checkpoints.
        vocoder: unit vocoder folder, for official LLaMA-Omni checkpoints.
        device: for all parts.
        dtype: of the LLM and the modules around it.

    Raises:
        CheckpointError: it is neither, or does not load.
    """
    folder = find_model(name)
    if is_llama_omni(folder):
        if llm is not None:
            raise CheckpointError(f"{folder}: LLaMA-Omni brings its own LLM, which was trained with it; drop --llm")
        return load_llama_omni(folder, speech_encoder, vocoder, device=device, dtype=dtype)
    if speech_encoder is not None or vocoder is not None:
        raise CheckpointError(
            f"{folder} is no official LLaMA-Omni folder; --speech-encoder and --vocoder go with those only"
        )
    if is_official(folder):
        return load_official(folder, llm, device=device, dtype=dtype)
    if is_bundle(folder):
        return load_bundle(folder, llm, device=device, dtype=dtype)
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise CheckpointError(
        f"{folder}: expected a bundle (config.json, model.safetensors) or the official checkpoints (audiollm/, "
        f"decoder/, codec/; or LLaMA-Omni's folder); found {found}"
    )

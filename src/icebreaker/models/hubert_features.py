"""Frames of one layer of a Hugging Face HuBERT or mHuBERT folder. Knows nothing of units or clusters.

Units of the official release: layer 11 of mHuBERT base (arXiv:2409.06666v2, section 3.4), 50 frames a second of 768.
"""

import json
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import HubertModel

from icebreaker.errors import CheckpointError

__all__ = ["HubertFeatures"]

PIECE_SAMPLES = 1_600_000  # 100 s; longer recordings are heard in pieces, as the released tool does
LEAST_SAMPLES = 400  # one frame
ADVICE = "give the folder of a Hugging Face HuBERT model, with config.json and weights"


class HubertFeatures(nn.Module):
    """Waveform to the frames after transformer layer ``layer``, counted from 1."""

    hop_length = 320  # samples at 16 kHz

    def __init__(self, model: Any, layer: int, *, normalise: bool = False) -> None:
        """Listen to ``layer`` of ``model``; ``normalise`` brings every recording to mean 0 and deviation 1 first.

        Raises:
            ValueError: there is no such layer.
        """
        super().__init__()
        layers = int(model.config.num_hidden_layers)
        if not 1 <= layer <= layers:
            raise ValueError(f"expected a layer from 1 to {layers}, got {layer}")
        self.model = model.requires_grad_(False).eval()
        self.layer, self.normalise = layer, normalise

    @classmethod
    def load(cls, folder: Path, layer: int) -> Self:
        """Load a Hugging Face folder; nothing is fetched. ``preprocessor_config.json`` says whether to normalise.

        Raises:
            CheckpointError: the folder is missing, damaged, or not a HuBERT model's.
            ValueError: there is no such layer.
        """
        try:
            if json.loads((folder / "config.json").read_text())["model_type"] != "hubert":
                raise CheckpointError(f"{folder}: the model in it is not a HuBERT; {ADVICE}")
            model, report = HubertModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder}: not loadable as HuBERT: {str(error).splitlines()[0]}; {ADVICE}"
            ) from error
        absent = sorted(set(map(str, report["missing_keys"])) - {"masked_spec_embed"})  # only pre-training needs it
        if absent:
            raise CheckpointError(f"{folder}: {absent[0]} is missing; {ADVICE}")
        return cls(model, layer, normalise=_normalises(folder))

    @property
    def width(self) -> int:
        """Width of a frame."""
        return int(self.model.config.hidden_size)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform [S] at 16 kHz to frames [T, D], T = 1 + (S - 400) // 320 for each piece of 100 s."""
        if self.normalise:
            waveform = F.layer_norm(waveform, waveform.shape)
        pieces = [piece for piece in waveform.split(PIECE_SAMPLES) if len(piece) >= LEAST_SAMPLES]
        heard = [self.model(piece[None], output_hidden_states=True).hidden_states[self.layer][0] for piece in pieces]
        return torch.cat(heard) if heard else waveform.new_zeros(0, self.width)


def _normalises(folder: Path) -> bool:
    path = folder / "preprocessor_config.json"
    return bool(json.loads(path.read_text()).get("do_normalize", False)) if path.is_file() else False

"""The official codec of the stored vectors, in our form."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch

from icebreaker.checkpoints.codec_keys import codec_config, codec_from_official
from icebreaker.models.codec import Codec

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"


@cache
def official_codec(root: str = "") -> Codec:
    folder = GOLDEN / root / "checkpoints" / "codec"
    config = codec_config(json.loads((folder / "model.json").read_text()), "model.json")
    codec = Codec(config).eval()
    codec.load_state_dict(codec_from_official(torch.load(folder / "final.pt", weights_only=True), config, "final.pt"))
    return codec


def expected(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from icebreaker.checkpoints.audiollm_keys import audiollm_key_table
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.encoder import Encoder, EncoderConfig

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"
TINY = EncoderConfig(subsampling_dim=24, width=32, heads=4, feed_forward_dim=48, layers=2)


@pytest.mark.parametrize(
    ("folder", "encoder", "adapter"),
    [
        (GOLDEN, TINY, AdapterConfig(encoder_dim=32, llm_dim=128)),
        (GOLDEN / "official-shape", EncoderConfig(), AdapterConfig()),
    ],
)
def test_table_names_every_official_key(folder: Path, encoder: EncoderConfig, adapter: AdapterConfig) -> None:
    official = torch.load(folder / "checkpoints" / "audiollm" / "final.pt", weights_only=True)
    assert audiollm_key_table(encoder, adapter).keys() == official.keys()
    with_cmvn = audiollm_key_table(encoder, adapter, cmvn=True)
    assert with_cmvn.keys() - official.keys() == {"encoder.global_cmvn.mean", "encoder.global_cmvn.istd"}
    without = official.keys() - audiollm_key_table(encoder, adapter, prompts=False).keys()
    assert without == {"prompt_embeddings.weight"}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"position_encoding": "abs-enc"},
        {"normalize_before": False, "concat_after": True},
        {"feed_forward": "conv1d-linear", "feed_forward_kernel_size": 3},
        {"input_layer": "none", "subsampling_dim": 32},
    ],
)
def test_table_names_every_key_of_ours(change: dict[str, object]) -> None:
    encoder, adapter = replace(TINY, **change), AdapterConfig(encoder_dim=32, llm_dim=128, norm="batch")
    ours = {f"encoder.{key}" for key in Encoder(encoder).state_dict()}
    ours |= {f"adapter.{key}" for key in Adapter(adapter).state_dict()}
    named = {key for key in audiollm_key_table(encoder, adapter, cmvn=True).values() if key is not None}
    assert {key for key in named if key.startswith(("encoder.", "adapter."))} == ours

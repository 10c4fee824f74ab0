import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from icebreaker.checkpoints.bundle import BundleConfig, LLMReference
from icebreaker.checkpoints.modules import ModelConfig, PromptsConfig
from icebreaker.models.adapter import Adapter, AdapterConfig
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.models.codec_lm import CodecLM, CodecLMConfig
from icebreaker.models.encoder import Encoder, EncoderConfig
from icebreaker.models.llm_folder import folder_sha256
from icebreaker.models.prompts import Prompts
from icebreaker.models.turn_head import TurnHead

GOLDEN = Path(__file__).parents[1] / "golden" / "freeze-omni-tiny"


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of the tiny official folder that a test may damage."""
    return Path(shutil.copytree(GOLDEN / "checkpoints", tmp_path / "official"))


@pytest.fixture(scope="session")
def llm_folder() -> Path:
    return GOLDEN / "llm"


@pytest.fixture(scope="session")
def model_config() -> ModelConfig:
    return ModelConfig(
        encoder=EncoderConfig(subsampling_dim=6, width=8, heads=2, feed_forward_dim=12, layers=1, left_chunks=2),
        adapter=AdapterConfig(encoder_dim=8, llm_dim=128, kernel_size=3),
        codec_lm=CodecLMConfig(codes=16, llm_dim=128, hidden=16, linear_units=24, blocks=2, heads=2),
        codec=CodecConfig(
            upsample_rates=(4, 2),
            upsample_kernel_sizes=(8, 4),
            upsample_initial_channel=16,
            resblock_kernel_sizes=(3,),
            resblock_dilation_sizes=((1, 3),),
            codes=16,
            latent_dim=8,
            encoder="mel",
            encoder_channels=8,
            encoder_blocks=1,
            voice_codes=0,
            voice=(),
            resblock="2",
        ),
        prompts=PromptsConfig(prompts=3, tasks=2),
        chat="official",  # the tiny tokenizer has no template
    )


@pytest.fixture(scope="session")
def modules(model_config: ModelConfig) -> dict[str, nn.Module]:
    torch.manual_seed(3)
    return {
        "encoder": Encoder(model_config.encoder),
        "adapter": Adapter(model_config.adapter),
        "prompts": Prompts(128, 3, 2),
        "turn_head": TurnHead(128),
        "codec_lm": CodecLM(model_config.codec_lm),
        "codec": Codec(model_config.codec),
    }


@pytest.fixture
def weights(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{part}.{key}": value.contiguous()
        for part, module in modules.items()
        for key, value in module.state_dict().items()
    }


@pytest.fixture(scope="session")
def bundle_config(model_config: ModelConfig, llm_folder: Path) -> BundleConfig:
    reference = LLMReference(sha256=folder_sha256(llm_folder), width=128, name="tiny", path="llm")
    return BundleConfig(model=model_config, llm=reference)

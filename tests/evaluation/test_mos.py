from pathlib import Path

import numpy as np
import pytest
import torch

from icebreaker.audio.pcm import load_audio
from icebreaker.errors import ConfigError
from icebreaker.evaluation.mos import MOS_RATE, Dnsmos, Utmos

QUESTION = Path(__file__).parents[2] / "examples" / "question.wav"


def test_dnsmos_prefers_speech_to_noisy_speech() -> None:
    predictor, speech = Dnsmos(), load_audio(QUESTION, MOS_RATE)
    clean = predictor.score(speech)
    noise = np.random.default_rng(0).normal(0, 0.05, len(speech)).astype(np.float32)
    noisy = predictor.score((speech + noise).clip(-1, 1))
    assert set(clean) == {"speech", "background", "overall"}
    assert all(1 <= value <= 5 for value in clean.values())
    assert clean["background"] > noisy["background"] + 0.5
    assert clean["overall"] > noisy["overall"]
    assert predictor.score(np.zeros(0, np.float32)) == {}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_utmos_is_a_torchscript_file(tmp_path: Path) -> None:
    class Level(torch.nn.Module):
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return waveform.abs().mean(dim=1)

    path = tmp_path / "utmos.pt"
    torch.jit.trace(Level(), torch.zeros(1, 8)).save(str(path))
    assert Utmos(path).score(np.full(100, 0.25, np.float32)) == {"utmos": pytest.approx(0.25)}
    path.write_bytes(b"no model")
    with pytest.raises(ConfigError, match="TorchScript"):
        Utmos(path)

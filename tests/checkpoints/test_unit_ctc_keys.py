import torch
from omni_golden import MODEL, omni_parts
from safetensors.torch import load_file

from icebreaker.checkpoints.unit_ctc_keys import unit_ctc_to_official


def test_official_weights_come_back_as_they_were() -> None:
    decoder = omni_parts().unit_ctc
    back = unit_ctc_to_official(decoder.state_dict(), decoder.config)
    stored = load_file(MODEL / "model.safetensors")
    names = {name for name in stored if name.startswith("speech_generator.")}
    assert {f"speech_generator.{name}" for name in back} == names
    for name, value in back.items():
        assert torch.equal(value, stored[f"speech_generator.{name}"].float()), name

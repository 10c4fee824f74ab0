"""Which device is taken, and every stage on a GPU that is only pretended: what would not meet there does not here."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omni import stopping_at
from pretended_gpu import GPU, PretendedGPU, on_gpu
from torch import Tensor, nn
from toy_stages import configs, losses, runner

from icebreaker.errors import ConfigError
from icebreaker.nn import attention
from icebreaker.training import devices
from icebreaker.training.devices import chosen_device, device_of, moved, named
from icebreaker.training.loop import OptimConfig
from icebreaker.training.speech_batches import SpeechBatch

pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda', but CUDA is not available")
NAMES = (
    "backbone", "encoder_ctc", "adapter_ctc", "alignment", "spoken_qa", "codec", "codec_lm", "codec_lm_prefix",
    "speech_instruct", "speech_instruct/full", "speech_instruct/lora", "speech_instruct/whisper", "unit_ctc",
    "unit_ctc/read", "units", "unit_vocoder",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every stage after its two steps on the CPU."""
    made = configs(tmp_path_factory.mktemp("stages"))
    for name, config in made.items():
        runner(name)(config)
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGPU:
    monkeypatch.setattr(devices, "gpu_count", lambda: 1)
    monkeypatch.setattr(devices, "own_gpu", lambda: 0)
    monkeypatch.setattr(attention, "BY_PARTS", ("cpu", GPU.type))  # the order of its sums is tested in tests/nn
    return PretendedGPU()


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_takes_the_same_steps_on_a_gpu(
    finished: dict[str, Any], name: str, gpu: PretendedGPU, tmp_path: Path
) -> None:
    """Random numbers of a pretended GPU are the CPU's, so its curve is, too."""
    config = replace(finished[name], output=type(finished[name].output)(tmp_path / "out"))
    with gpu:
        assert device_of(config) == GPU
        runner(name)(config)
    assert GPU in gpu.computed
    if name == "units":
        assert (tmp_path / "out" / "units.jsonl").read_text() == (finished[name].output / "units.jsonl").read_text()
        return
    assert losses(config) == [pytest.approx(row, rel=1e-4, abs=1e-5, nan_ok=True) for row in losses(finished[name])]


def test_a_checkpoint_of_a_gpu_goes_on_without_one(finished: dict[str, Any], gpu: PretendedGPU, tmp_path: Path) -> None:
    whole = finished["encoder_ctc"]
    begun = replace(whole, output=str(tmp_path), optim=replace(whole.optim, save_every=1))
    with gpu, pytest.raises(KeyboardInterrupt):
        runner("encoder_ctc")(begun, stopping_at(2))
    assert torch.load(tmp_path / "last.pt", weights_only=True)["step"] == 1
    runner("encoder_ctc")(replace(begun, optim=replace(begun.optim, device="cpu")))
    assert losses(begun) == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in losses(whole)]


def test_a_pretended_gpu_is_as_strict_as_a_real_one() -> None:
    with PretendedGPU():
        layer = nn.Linear(3, 4).to("cuda")
        there, here = torch.randn(2, 3, device="cuda:0"), torch.randn(2, 3)
        loss = layer(there).square().mean()
        loss.backward()
        assert {layer.weight.device, layer.weight.grad.device, (there * torch.tensor(2.0)).device} == {GPU}
        assert there[torch.tensor([0])].is_cuda
        assert not there.cpu().is_cuda
        for meeting in (
            lambda: layer(here),
            lambda: here[torch.zeros(1, dtype=torch.long, device="cuda")],
            lambda: there + here,
            lambda: torch.cat([there, here]),
            lambda: torch.where(there > 0, here, here),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                meeting()
        with pytest.raises(TypeError, match="can't convert"):
            there.numpy()
    assert on_gpu(there)
    assert not on_gpu(here)


def test_the_device_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpus, name, expected in ((0, "auto", "cpu"), (2, "auto", "cuda:1"), (2, "cuda", "cuda:1"), (2, "cpu", "cpu")):
        monkeypatch.setattr(devices, "gpu_count", lambda gpus=gpus: gpus)
        monkeypatch.setattr(devices, "own_gpu", lambda: 1)
        assert chosen_device(name) == torch.device(expected)
    assert chosen_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ConfigError, match=r"sees 2 GPUs, cuda:0 to cuda:1; name one of them"):
        chosen_device("cuda:2")
    monkeypatch.setattr(devices, "world", lambda: 2)
    with pytest.raises(ConfigError, match=r"for all of 2 processes; set it to 'auto' or 'cuda'"):
        chosen_device("cuda:0")
    monkeypatch.setattr(devices, "on_this_machine", lambda: 4)
    with pytest.raises(ConfigError, match=r"4 processes on a machine with 2 GPUs.* start at most 2"):
        chosen_device("auto")
    assert chosen_device("cpu").type == "cpu"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"device is 'cuda:0', but torch .* sees no GPU; set device to 'auto'"):
        chosen_device("cuda:0")
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N"):
        OptimConfig(steps=1, lr=1.0, device="gpu")
    assert named(torch.device("cpu")) == "cpu"


class Row(NamedTuple):
    codes: Tensor
    words: list[str]


def test_whatever_holds_tensors_is_moved_and_only_that(gpu: PretendedGPU) -> None:
    here, words = torch.ones(2), ["a"]
    batch = SpeechBatch(torch.ones(1, 4, 80), torch.tensor([4]), [0], [4], [], (0, 1))
    value = {"rows": [Row(here, words)], "pair": (here, None), "batch": batch, "name": "x"}
    assert moved(value, torch.device("cpu")) is value
    with gpu:
        there: dict[str, Any] = moved(value, GPU)
        (row,) = there["rows"]
        assert isinstance(row, Row)
        assert row.words is words
        assert [each.device for each in (row.codes, there["pair"][0], there["batch"].fbank)] == [GPU] * 3
        assert (there["batch"].seed, there["pair"][1], there["name"]) == ((0, 1), None, "x")
    assert not on_gpu(here)

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from icebreaker.audio import microphone as module
from icebreaker.audio.microphone import Microphone, Speaker
from icebreaker.errors import AudioError


class PortAudioError(Exception):
    pass


class FakeStream:
    def __init__(self, samplerate: int, callback: Callable[..., None], **_: Any) -> None:
        self.samplerate, self.callback, self.state = samplerate, callback, "new"

    def start(self) -> None:
        self.state = "started"

    def close(self) -> None:
        self.state = "closed"


class FakeSounddevice(ModuleType):
    """One input and one output device that know only some sample rates."""

    PortAudioError = PortAudioError
    InputStream = OutputStream = FakeStream

    def __init__(self, rates: set[int], own_rate: float = 48000.0) -> None:
        super().__init__("sounddevice")
        self.rates, self.own_rate = rates, own_rate

    def query_devices(self, device: int | str | None, kind: str) -> dict[str, float]:
        if not self.rates:
            raise PortAudioError("Error querying device -1")
        if isinstance(device, str):
            raise ValueError(f"No {kind} device matching {device!r}")
        return {"default_samplerate": self.own_rate}

    def check_input_settings(self, samplerate: int, **_: Any) -> None:
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    check_output_settings = check_input_settings


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    sounddevice = FakeSounddevice({16000, 24000, 48000})
    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)
    return sounddevice


def feed(stream: FakeStream, waveform: np.ndarray, block: int) -> None:
    for start in range(0, len(waveform), block):
        piece = waveform[start : start + block, None].copy()
        stream.callback(piece, len(piece), None, None)
        piece[:] = np.nan  # the buffer was only lent


def take(stream: FakeStream, frames: int) -> np.ndarray:
    samples = np.full((frames, 1), np.nan, dtype=np.float32)
    stream.callback(samples, frames, None, None)
    return samples[:, 0]


def test_blocks_of_160_ms(fake: FakeSounddevice) -> None:
    waveform = np.arange(6000, dtype=np.float32) / 6000
    with Microphone() as microphone:
        assert microphone._stream.state == "started"
        feed(microphone._stream, waveform, 441)
        blocks = iter(microphone)
        np.testing.assert_array_equal(np.concatenate([next(blocks), next(blocks)]), waveform[:5120])
    assert microphone._stream.state == "closed"


def test_a_device_of_another_rate_is_resampled(fake: FakeSounddevice) -> None:
    fake.rates = {48000}
    waveform = np.sin(2 * np.pi * 300 * np.arange(48000) / 48000).astype(np.float32)
    with Microphone() as microphone:
        feed(microphone._stream, waveform, 480)
        blocks = iter(microphone)
        heard = np.concatenate([next(blocks) for _ in range(5)])
    expected = np.sin(2 * np.pi * 300 * np.arange(len(heard)) / 16000)
    np.testing.assert_allclose(heard[500:], expected[500:], atol=1e-3)


def test_an_unplugged_microphone(fake: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_DEVICE_S", 0.01)
    with Microphone() as microphone, pytest.raises(AudioError, match="got none for"):
        next(iter(microphone))


def test_a_slow_listener_loses_the_newest_and_is_told(fake: FakeSounddevice, caplog: pytest.LogCaptureFixture) -> None:
    with Microphone() as microphone:
        feed(microphone._stream, np.zeros(160 * (module.QUEUED_BLOCKS + 1), dtype=np.float32), 160)
    assert [record.getMessage() for record in caplog.records] == [
        "microphone: lost 160 samples, the listener is too slow"
    ]


def test_the_speaker_plays_in_order_then_silence(fake: FakeSounddevice) -> None:
    with Speaker(24000) as speaker:
        speaker.play(np.full(1000, 0.5, dtype=np.float32))
        speaker.play(np.full(500, -0.5, dtype=np.float32))
        assert speaker.pending_s == pytest.approx(1500 / 24000)
        np.testing.assert_array_equal(take(speaker._stream, 1200), [0.5] * 1000 + [-0.5] * 200)
        assert not speaker.drain(timeout_s=0)
        np.testing.assert_array_equal(take(speaker._stream, 400), [-0.5] * 300 + [0.0] * 100)
        assert speaker.drain(timeout_s=0)
    assert speaker._stream.state == "closed"


def test_stopping_says_what_was_never_heard(fake: FakeSounddevice) -> None:
    with Speaker(24000) as speaker:
        speaker.play(np.ones(24000, dtype=np.float32))
        take(speaker._stream, 6000)
        assert speaker.stop() == pytest.approx(0.75)
        assert not take(speaker._stream, 100).any()
        speaker.play(np.full(10, 0.25, dtype=np.float32))
        assert take(speaker._stream, 10).tolist() == [0.25] * 10


def test_held_it_is_silent_and_goes_on_at_the_next_sample(fake: FakeSounddevice) -> None:
    ramp = np.arange(300, dtype=np.float32)
    with Speaker(24000) as speaker:
        speaker.play(ramp)
        assert take(speaker._stream, 100).tolist() == ramp[:100].tolist()
        speaker.hold()
        assert not take(speaker._stream, 100).any()
        assert speaker.pending_s == pytest.approx(200 / 24000)
        speaker.go_on()
        assert take(speaker._stream, 100).tolist() == ramp[100:200].tolist()
        speaker.hold()
        assert speaker.stop() == pytest.approx(100 / 24000)
        speaker.play(ramp)
        assert take(speaker._stream, 100).tolist() == ramp[:100].tolist(), "it is held no longer"


def test_the_speaker_resamples_to_the_last_sample(fake: FakeSounddevice) -> None:
    fake.rates = {48000}
    with Speaker(24000) as speaker:
        speaker.play(np.full(2400, 0.5, dtype=np.float32))
        assert not speaker.drain(timeout_s=0)
        assert speaker.pending_s == pytest.approx(0.1)


def test_no_device_or_a_wrong_name(fake: FakeSounddevice) -> None:
    with pytest.raises(AudioError, match="expected the output device 'Wrong', got: No output device matching"):
        Speaker(24000, device="Wrong")
    fake.rates = set()
    with pytest.raises(AudioError, match="expected a default input device, got: Error querying"):
        Microphone()


def test_a_device_that_does_not_start_is_closed(fake: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stream: FakeStream) -> None:
        raise PortAudioError("Device unavailable")

    monkeypatch.setattr(FakeStream, "start", fail)
    speaker = Speaker(24000)
    with pytest.raises(AudioError, match="output device, got: Device unavailable"), speaker:
        pass
    assert speaker._stream.state == "closed"


def test_a_missing_package_or_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(AudioError, match=r"pip install 'icebreaker-speech\[microphone\]'"):
        Microphone()

    def without_library(name: str) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(module.importlib, "import_module", without_library)
    with pytest.raises(AudioError, match="expected PortAudio, got: PortAudio library not found"):
        Speaker(24000)


def test_importing_touches_no_sound_system() -> None:
    code = "import sys, icebreaker.audio.microphone; assert 'sounddevice' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

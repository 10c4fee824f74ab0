import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from icebreaker.audio import pcm
from icebreaker.audio.pcm import (
    Resampler,
    load_audio,
    pcm_to_waveform,
    save_wav,
    stream_audio,
    waveform_to_pcm,
)
from icebreaker.errors import AudioError


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_any_channels(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "tone.wav"
    levels = np.linspace(0.5, 1.5, channels) if channels > 1 else np.ones(1)  # averages to 1
    soundfile.write(path, tone(2, rate)[:, None] * levels, rate, subtype="FLOAT")
    waveform = load_audio(path, 16000)
    assert waveform.dtype == np.float32
    assert waveform.shape == (32000,)
    np.testing.assert_allclose(waveform[1000:-1000], tone(2, 16000)[1000:-1000], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "kind", "subtype", "tolerance"),
    [
        ("a.wav", "WAV", "PCM_16", 1e-4),
        ("a.wav", "WAV", "PCM_U8", 1e-2),
        ("a.wav", "WAV", "PCM_24", 1e-6),
        ("a.wav", "WAVEX", "DOUBLE", 1e-6),
        ("a.flac", "FLAC", "PCM_16", 1e-4),
        ("a.ogg", "OGG", "VORBIS", 0.03),
        ("a.opus", "OGG", "OPUS", 0.03),
        ("a.mp3", "MP3", "MPEG_LAYER_III", 0.03),
        ("no-extension", "FLAC", "PCM_16", 1e-4),
    ],
)
def test_any_format(tmp_path: Path, name: str, kind: str, subtype: str, tolerance: float) -> None:
    path, expected = tmp_path / name, tone(2, 48000)
    soundfile.write(path, expected, 48000, format=kind, subtype=subtype)
    waveform = load_audio(path, 48000)
    assert waveform.shape == expected.shape
    np.testing.assert_allclose(waveform[4800:-4800], expected[4800:-4800], atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 192000])
def test_a_single_sample_survives(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "one.wav", np.array([0.25]), rate, subtype="FLOAT")
    waveform = load_audio(tmp_path / "one.wav", 16000)
    assert waveform.shape == (2 if rate == 8000 else 1,)
    assert np.abs(waveform).max() == pytest.approx(0.25, abs=0.05)


def test_silence_stays_silence_and_clipping_stays_at_full_scale(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(4000), 8000)
    assert not load_audio(tmp_path / "silence.wav", 16000).any()
    clipped = np.clip(10 * tone(1, 16000), -1, 1)
    soundfile.write(tmp_path / "clipped.wav", clipped, 16000)
    np.testing.assert_allclose(load_audio(tmp_path / "clipped.wav", 16000), clipped, atol=1e-4)


def test_an_hour_is_read_in_constant_memory(tmp_path: Path) -> None:
    path, seconds = tmp_path / "hour.wav", 3600
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_U8") as file:
        for minute in range(60):
            file.write(np.full(60 * 16000, minute / 100, dtype=np.float32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lengths, levels = [], []
    for chunk in stream_audio(path, 16000, 160_000):
        lengths.append(len(chunk))
        levels.append(chunk.mean())
    assert sum(lengths) == seconds * 16000
    np.testing.assert_allclose(levels[::6], np.arange(60) / 100, atol=1e-2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KiB; the hour itself is 230 MB


@pytest.mark.parametrize("chunk_samples", [1, 2560, 10_000_000])
def test_chunks_are_whole_and_add_up(tmp_path: Path, chunk_samples: int) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(0.5, 44100), 44100)
    chunks = list(stream_audio(str(path), 16000, chunk_samples))
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_samples}
    assert 0 < len(chunks[-1]) <= chunk_samples
    np.testing.assert_array_equal(np.concatenate(chunks), load_audio(path, 16000))


def test_streamed_resampling_equals_one_shot(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 300_000).astype(np.float32)
    soundfile.write(tmp_path / "noise.wav", noise, 44100, subtype="FLOAT")
    expected = soxr.resample(noise, 44100, 16000, quality="HQ")
    np.testing.assert_allclose(load_audio(tmp_path / "noise.wav", 16000), expected, atol=1e-4)


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def damaged_flac(path: Path) -> None:
    soundfile.write(path, tone(5, 16000), 16000, format="FLAC")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


BAD_FILES = {
    "no file": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "no bytes": (lambda path: write_bytes(path, b""), "0 bytes"),
    "text": (lambda path: write_bytes(path, b"hello " * 100), "unreadable"),
    "a broken header": (lambda path: write_bytes(path, b"RIFF\x00\x00\x00\x00WAVEfmt "), "recording"),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16000), "at least one sample, got none"),
    "NaN": (lambda path: soundfile.write(path, np.array([0, np.nan]), 16000, subtype="FLOAT"), "got nan"),
    "infinity": (lambda path: soundfile.write(path, np.array([0, -np.inf]), 16000, subtype="FLOAT"), "got inf"),
    "integers as floats": (lambda path: soundfile.write(path, np.full(9, 1e4), 16000, subtype="FLOAT"), "got 10000"),
    "one sample a second": (lambda path: soundfile.write(path, np.zeros(10), 1), "got 1 Hz"),
    "half a FLAC": (damaged_flac, "damaged after"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files_say_what_to_do(tmp_path: Path, kind: str) -> None:
    write, message = BAD_FILES[kind]
    path = tmp_path / "recording.wav"
    write(path)
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(path, 16000)
    assert str(path) in str(caught.value)


def test_a_headerless_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.raw"
    path.write_bytes(bytes(1000))
    with pytest.raises(AudioError, match="unreadable"):
        load_audio(path, 16000)


def test_half_a_wav_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "half.wav"
    soundfile.write(path, tone(2, 16000), 16000)
    path.write_bytes(path.read_bytes()[: 44 + 32000])
    np.testing.assert_allclose(load_audio(path, 16000), tone(1, 16000), atol=1e-4)


@pytest.mark.parametrize(("rate", "chunk_samples"), [(0, 10), (16000, 0), (-1, 10)])
def test_bad_arguments_are_refused_at_once(tmp_path: Path, rate: int, chunk_samples: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        stream_audio(tmp_path / "any.wav", rate, chunk_samples)


@pytest.mark.parametrize("rates", [(16000, 24000), (48000, 16000), (24000, 24000)])
@pytest.mark.parametrize("piece", [1, 37, 960])
def test_resampler_gives_every_sample_once(rates: tuple[int, int], piece: int) -> None:
    from_rate, to_rate = rates
    resampler, outputs, waveform = Resampler(from_rate, to_rate), [], tone(0.5, from_rate)
    for start in range(0, len(waveform), piece):
        outputs.append(resampler.push(waveform[start : start + piece], last=start + piece >= len(waveform)))
    output = np.concatenate(outputs)
    assert output.dtype == np.float32
    assert len(output) == to_rate // 2
    np.testing.assert_allclose(output[500:-500], tone(0.5, to_rate)[500:-500], atol=1e-3)
    with pytest.raises(ValueError, match="already pushed"):
        resampler.push(waveform)


def test_resampler_wants_mono() -> None:
    with pytest.raises(ValueError, match="mono"):
        Resampler(8000, 16000).push(np.zeros((4, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 16000)


def test_int16_saturates_and_round_trips() -> None:
    waveform = np.array([0, 0.5, 1.0, 1.5, -1.0, -2.0, np.inf, -np.inf, 0.4 / 32768], dtype=np.float32)
    samples = waveform_to_pcm(waveform)
    assert samples.tolist() == [0, 16384, 32767, 32767, -32768, -32768, 32767, -32768, 0]
    every = np.arange(-32768, 32768, dtype=np.int16)
    np.testing.assert_array_equal(waveform_to_pcm(pcm_to_waveform(every)), every)
    np.testing.assert_array_equal(pcm_to_waveform(every.tobytes()), pcm_to_waveform(every))
    assert waveform_to_pcm(np.zeros((2, 3))).shape == (2, 3)


def test_int16_refuses_what_is_none() -> None:
    with pytest.raises(ValueError, match="NaN"):
        waveform_to_pcm([0.0, np.nan])
    with pytest.raises(ValueError, match="even number of bytes"):
        pcm_to_waveform(b"abc")
    with pytest.raises(ValueError, match="expected int16"):
        pcm_to_waveform(np.zeros(2))  # type: ignore[arg-type]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    save_wav(path, np.zeros(5), 8000)
    save_wav(path, 3 * tone(1, 24000), 24000)  # replaces; too loud saturates
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(load_audio(path, 24000), np.clip(3 * tone(1, 24000), -1, 1), atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["out.wav"]


def test_save_refuses_stereo_and_no_rate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mono"):
        save_wav(tmp_path / "a.wav", np.zeros((2, 5)), 8000)
    with pytest.raises(ValueError, match="positive rate"):
        save_wav(tmp_path / "a.wav", np.zeros(5), 0)
    assert not list(tmp_path.iterdir())


def test_no_folder_to_save_in(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"missing/a\.wav: cannot write 54 bytes: No such file"):
        save_wav(tmp_path / "missing" / "a.wav", np.zeros(5), 8000)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """The system refuses to let a file grow past 10 kB, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "answer.wav"
    save_wav(path, tone(0.1, 16000), 16000)
    before = path.read_bytes()
    with pytest.raises(AudioError, match=r"answer\.wav: cannot write 32044 bytes: .*free space"):
        save_wav(path, tone(1, 16000), 16000)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["answer.wav"]


def test_what_is_public() -> None:
    assert all(hasattr(pcm, name) for name in pcm.__all__)

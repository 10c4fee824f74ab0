import numpy as np
import pytest
import soundfile

from icebreaker.data import synthesis
from icebreaker.data.synthesis import HELD_OUT_VOICES, TRAIN_VOICES, Utterance, Voice, synthesise, trim
from icebreaker.errors import DataError

ESPEAK = Voice(name="espeak", engine="espeak", engine_voice="en-us")
RATE = 16_000


def spectral_centre(waveform: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float((power * np.fft.rfftfreq(len(waveform), 1 / RATE)).sum() / power.sum())


def test_speech_is_as_long_as_its_speed_says_whatever_its_pitch() -> None:
    sentence = "The capital of France is Paris."
    usual, fast, slow, high, low = synthesise(
        ESPEAK,
        [
            Utterance(text=sentence),
            Utterance(text=sentence, speed=1.15),
            Utterance(text=sentence, speed=0.88),
            Utterance(text=sentence, pitch=1.12),
            Utterance(text=sentence, pitch=0.9),
        ],
        RATE,
    )
    assert 1.0 < len(usual) / RATE < 3.0
    assert len(usual) / len(fast) == pytest.approx(1.15, abs=0.08)
    assert len(usual) / len(slow) == pytest.approx(0.88, abs=0.08)
    assert len(high) / len(usual) == pytest.approx(1.0, abs=0.08)
    assert spectral_centre(low) < spectral_centre(usual) < spectral_centre(high)
    for waveform in (usual, fast, slow, high, low):
        assert waveform.dtype == np.float32
        assert np.abs(waveform).max() == pytest.approx(0.7, abs=1e-3)


def test_the_same_utterance_sounds_the_same_and_rates_are_honoured() -> None:
    first, second = (synthesise(ESPEAK, [Utterance(text="Apple.")], RATE)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = synthesise(ESPEAK, [Utterance(text="Apple.")], 24_000)[0]
    assert len(other) / len(first) == pytest.approx(1.5, abs=0.03)


@pytest.mark.parametrize(("written", "sounds"), [("mhm", "um hum"), ("hmm", "hum")])
def test_a_hum_is_not_spelt(written: str, sounds: str) -> None:
    voice = next(voice for voice in TRAIN_VOICES if voice.engine == "flite")
    said, wanted = synthesise(voice, [Utterance(text=written), Utterance(text=sounds)], 16_000)
    np.testing.assert_array_equal(said, wanted)


def test_flite_speaks_too() -> None:
    voice = next(voice for voice in TRAIN_VOICES if voice.name == "flite-kal16")
    waveform = synthesise(voice, [Utterance(text="Hello there.", speed=0.9, pitch=1.1)], RATE)[0]
    assert 0.5 < len(waveform) / RATE < 2.0


@pytest.mark.parametrize("text", ["-w /etc/passwd", 'quote " here', "<break/>", "a\\b", ""])
def test_text_that_could_be_taken_for_a_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="plain words"):
        synthesise(ESPEAK, [Utterance(text=text)], RATE)


def test_a_missing_synthesiser_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="espeak-ng is not installed; on Debian run `make data-packages`"):
        synthesise(ESPEAK, [Utterance(text="Hello.")], RATE)


def test_a_synthesiser_that_leaves_nothing_or_silence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_run", lambda command: None)
    with pytest.raises(DataError, match="espeak left no usable audio"):
        synthesise(ESPEAK, [Utterance(text="Hello.")], RATE)
    monkeypatch.setattr(synthesis, "_run", lambda command: soundfile.write(command[-2], np.zeros(100), RATE))
    with pytest.raises(DataError, match="espeak returned silence"):
        synthesise(ESPEAK, [Utterance(text="Hello.")], RATE)


def test_a_synthesiser_that_fails_is_quoted() -> None:
    with pytest.raises(DataError, match=r"ls --no-such-option .*failed with 2: ls: unrecognized option"):
        synthesis._run(["ls", "--no-such-option"])


def test_trim_keeps_a_margin_of_a_tenth_of_a_second() -> None:
    waveform = np.zeros(RATE, np.float32)
    waveform[5000:9001] = 0.5
    trimmed = trim(waveform, RATE)
    assert len(trimmed) == 4001 + 2 * 1600
    np.testing.assert_array_equal(trimmed, waveform[3400:10_601])
    np.testing.assert_array_equal(trim(np.zeros(10, np.float32), RATE), np.zeros(10, np.float32))


def test_no_held_out_voice_is_trained_on() -> None:
    trained = {(voice.engine, voice.engine_voice) for voice in TRAIN_VOICES}
    assert not trained & {(voice.engine, voice.engine_voice) for voice in HELD_OUT_VOICES}
    assert len({voice.name for voice in (*TRAIN_VOICES, *HELD_OUT_VOICES)}) == len(TRAIN_VOICES) + len(HELD_OUT_VOICES)


def test_festival_scripts_load_the_voice_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    utterances = [Utterance(text="One."), Utterance(text="Two.", speed=1.12)]
    files = [tmp_path / "0.wav", tmp_path / "1.wav"]
    script = synthesis._festival_script(tmp_path, synthesis.ASSISTANT, utterances, files).read_text()
    assert script.count("(voice_cmu_us_slt_arctic_hts)") == 1
    assert '"-r" 0.8929' in script  # the assistant speaks 12 % slower than the engine
    assert '"-r" 1.0000' in script

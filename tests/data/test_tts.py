import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from post_server import serve
from starlette.responses import Response

from icebreaker.data.http import Poster
from icebreaker.data.tts import Speaker, SpeakerConfig
from icebreaker.errors import DataError

TONE = (
    "import sys, numpy, soundfile; text, file, voice = sys.argv[1:];"
    "sys.exit(3) if 'bad' in text else soundfile.write(file, numpy.sin(numpy.arange(8000) * len(text) / 9), 8000)"
)


def test_a_command_speaks_and_fails_alone() -> None:
    config = SpeakerConfig(
        name="c", engine="command", voice="v", command=(sys.executable, "-c", TONE, "{text}", "{file}", "{voice}")
    )
    speaker = Speaker(config)
    speaker.check()
    good, bad, braces = speaker.speak(["hello", "bad one", "{file}; rm -rf"], 16000)
    assert bad is None
    assert good is not None
    assert braces is not None
    assert good.dtype == np.float32
    assert np.abs(good).max() == pytest.approx(0.7, abs=0.02)
    assert len(good) == pytest.approx(16000, abs=10)


def test_an_http_voice() -> None:
    def handle(body: dict, number: int) -> Response:
        if "no" in body["input"]:
            return Response("cannot say that", 400)
        file = io.BytesIO()
        soundfile.write(file, 0.1 * np.ones((4000, 2)), 8000, format="WAV")
        return Response(file.getvalue() if "yes" in body["input"] else b"not audio")

    with serve(handle) as (url, seen):
        config = SpeakerConfig(name="h", engine="http", url=url, voice="alloy", model="tts-1")
        said, refused, broken = Speaker(config).speak(["yes", "no", "what"], 16000)
    assert said is not None
    assert len(said) == 8000
    assert refused is None
    assert broken is None
    assert seen[0].items() >= {"input": "yes", "voice": "alloy", "model": "tts-1", "response_format": "wav"}.items()
    with pytest.raises(DataError, match="no answer after 1 tries"):
        Speaker(config, Poster(url, tries=1)).speak(["yes"], 16000)


def test_one_sentence_a_built_in_voice_cannot_say_spoils_no_other() -> None:
    speaker = Speaker(SpeakerConfig(name="e", engine="espeak", voice="en-us"))
    good, bad = speaker.speak(["hello there", '"quoted"'], 16000)
    assert bad is None
    assert good is not None
    assert 0.3 < len(good) / 16000 < 3


def test_what_is_missing_is_said_before_work_begins() -> None:
    config = SpeakerConfig(name="p", engine="command", command=("no-such-tts", "{text}", "{file}"))
    with pytest.raises(DataError, match="voice 'p': no-such-tts is not installed"):
        Speaker(config).check()
    with pytest.raises(ValueError, match=r"command needs \{text\} and \{file\}"):
        SpeakerConfig(name="p", engine="command", command=("piper", "{text}"))
    with pytest.raises(ValueError, match="needs url"):
        SpeakerConfig(name="p", engine="http")


def test_a_voice_that_is_silent(tmp_path: Path) -> None:
    silence = "import sys, numpy, soundfile; soundfile.write(sys.argv[2], numpy.zeros(800), 8000)"
    config = SpeakerConfig(name="s", engine="command", command=(sys.executable, "-c", silence, "{text}", "{file}"))
    assert Speaker(config).speak(["hello"], 16000) == [None]

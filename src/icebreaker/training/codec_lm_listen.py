"""How well the speech decoder speaks, by ear: codes, codec, a recogniser that never saw our training (pocketsphinx).

The recogniser errs on perfect recordings, too, so its error rate on the recordings themselves stands beside ours, and
on the codec's own rendering of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from pocketsphinx import Decoder
from torch import Tensor

from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.data.manifest import read_manifest
from icebreaker.models.codec import Codec
from icebreaker.models.codec_lm import CodecLM
from icebreaker.models.codec_lm_generate import generate
from icebreaker.models.sampling import GREEDY, SamplingConfig
from icebreaker.training.codec_lm_batches import AnswerSource
from icebreaker.training.error_rate import error_rates, plain_words

__all__ = ["listen"]

SAMPLE_RATE = 16_000
MAX_CODES = 320  # 8 s
TOP_K = SamplingConfig(top_k=2)


def listen(
    model: CodecLM,
    codec: Codec,
    source: AnswerSource,
    manifest: Path,
    split: str,
    count: int,
    folder: Path | None = None,
) -> dict[str, float]:
    """Word error rates over ``count`` answers of ``split``, spread evenly: ours greedy and drawn, and the originals.

    ``folder`` gets the recordings of what was said, if given.
    """
    items = read_manifest(manifest, split)
    texts = {item.text: item for item in items}
    indices = np.linspace(0, len(source.answers) - 1, min(count, len(source.answers))).astype(int)
    answers = [source.answers[index] for index in indices]
    expected = [plain_words(answer.text) for answer in answers]
    recogniser = Decoder(loglevel="FATAL")
    original = [load_audio(texts[answer.text].audio, SAMPLE_RATE) for answer in answers]
    said = {
        "original": original,
        "codec": list(_render(codec, [answer.codes for answer in answers])),
        "greedy": list(_render(codec, _speak(model, source, indices.tolist(), GREEDY))),
        "top2": list(_render(codec, _speak(model, source, indices.tolist(), TOP_K))),
    }
    figures = {}
    for name, waveforms in said.items():
        heard = [_hear(recogniser, waveform) for waveform in waveforms]
        figures[f"wer_{name}"] = error_rates(expected, [plain_words(text) for text in heard])["wer"]
        for index, waveform in enumerate(waveforms if folder else []):
            assert folder is not None
            folder.mkdir(parents=True, exist_ok=True)
            save_wav(folder / f"{index:02d}-{name}.wav", waveform, SAMPLE_RATE)
    return figures


def _speak(model: CodecLM, source: AnswerSource, indices: Sequence[int], sampling: SamplingConfig) -> list[Tensor]:
    batch = source.batch([source.piece(index, 0, None) for index in indices], 0)
    state = model.prefill(batch.text, batch.text_lengths, batch.prefix, batch.prefix_lengths, max_codes=MAX_CODES)
    return generate(model, state, sampling, MAX_CODES, torch.Generator().manual_seed(0))


@torch.no_grad()
def _render(codec: Codec, rows: list[Tensor]) -> Iterator[NDArray[np.float32]]:
    for codes in rows:
        waveform = codec.decode(codes[None])[0].numpy() if len(codes) else np.zeros(2400, np.float32)
        yield np.asarray(soxr.resample(waveform, codec.config.sample_rate, SAMPLE_RATE), dtype=np.float32)


def _hear(recogniser: Decoder, waveform: NDArray[np.float32]) -> str:
    padded = np.pad(waveform, SAMPLE_RATE // 5)
    recogniser.start_utt()
    recogniser.process_raw((np.clip(padded, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    recogniser.end_utt()
    hypothesis = recogniser.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)

"""How well an independent recogniser understands speech that went through the codec, beside the source itself.

    python benchmarks/codec_quality.py runs/mini/codec runs/data/answers/manifest.jsonl [--split valid]

Word error rates of pocketsphinx (US English, free decoding): a judge for clean synthetic speech only, and to be read
against its error on the source. Also the log-mel distance. Writes ``quality.json`` into the codec's folder.
"""

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

import jiwer
import numpy as np
import soxr
import torch
from pocketsphinx import Decoder

from icebreaker.audio.pcm import save_wav
from icebreaker.config import from_mapping
from icebreaker.data.manifest import read_manifest
from icebreaker.models.codec import Codec, CodecConfig
from icebreaker.training.codec_batches import read_recordings
from icebreaker.training.codec_losses import SpectralLoss
from icebreaker.training.stage_files import load_into, stage_config

RECOGNISER_RATE = 16_000
PEAK, PADDING_S = 0.7, 0.25  # how the recogniser likes its recordings


def recognise(decoder: Decoder, waveform: np.ndarray, sample_rate: int) -> str:
    at_16k = soxr.resample(waveform, sample_rate, RECOGNISER_RATE)
    at_16k = np.pad(at_16k * PEAK / max(1e-6, np.abs(at_16k).max()), int(PADDING_S * RECOGNISER_RATE))
    decoder.reinit_feat()  # or the result would depend on earlier recordings
    decoder.start_utt()
    decoder.process_raw((at_16k * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return words(hypothesis.hypstr if hypothesis else "")


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def pick(manifest: Path, split: str, count: int) -> list:
    """Evenly spread recordings whose text has no digits: the recogniser spells numbers out."""
    items = [item for item in read_manifest(manifest, split) if not re.search(r"\d", item.text) and words(item.text)]
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def rates(references: Iterable[str], heard: Iterable[str]) -> float:
    return round(100 * jiwer.wer(list(references), list(heard)), 2)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("codec", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--keep", type=Path, help="folder for a few of the reconstructions")
    arguments = parser.parse_args()
    codec = Codec(from_mapping(CodecConfig, stage_config(arguments.codec)["model"], str(arguments.codec))).eval()
    load_into(codec, arguments.codec, "codec")
    rate, hop = codec.config.sample_rate, codec.config.hop_length
    spectral, decoder = SpectralLoss(rate), Decoder(samprate=RECOGNISER_RATE, loglevel="FATAL")
    items = pick(arguments.manifest, arguments.split, arguments.recordings)
    texts, source, coded, distances, used = [], [], [], [], set()
    for index, (item, real) in enumerate(zip(items, read_recordings(items, rate), strict=True)):
        codes, _ = codec.encode(torch.from_numpy(real)[None])
        made = codec.decode(codes)
        used |= set(codes.flatten().tolist())
        distances.append(float(spectral(made, torch.from_numpy(real)[None, : codes.shape[1] * hop])[0]))
        texts.append(words(item.text))
        source.append(recognise(decoder, real, rate))
        coded.append(recognise(decoder, made[0].numpy(), rate))
        if arguments.keep and index < 6:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            save_wav(arguments.keep / f"{item.id}.wav", made[0].numpy(), rate)
    figures = {
        "split": arguments.split,
        "recordings": len(items),
        "words": sum(len(text.split()) for text in texts),
        "wer_source": rates(texts, source),
        "wer_codec": rates(texts, coded),
        "log_mel_l1": round(float(np.mean(distances)), 4),
        "codes_used": len(used),
        "bits_per_second": round(rate / hop * np.log2(codec.config.codes), 1),
    }
    (arguments.codec / "quality.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""Speech out: is it understood, does it sound natural, and what does the codec lose?

The same sentences are said by the model at each top-k, by the codec alone (copy synthesis), and by the source voice.
One recogniser hears all three: its error on the source voice is the floor of the others.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.data.manifest import Item
from icebreaker.dialogue import Dialogue
from icebreaker.errors import ConfigError
from icebreaker.evaluation.codec_quality import compare, perplexity, reconstruct
from icebreaker.evaluation.measures import error_counts, error_rates
from icebreaker.evaluation.mos import MosPredictor, load_mos
from icebreaker.evaluation.published import OUTPUT_CER
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, Recogniser, load_recogniser
from icebreaker.evaluation.report import Cell, Chart, Report, Table
from icebreaker.evaluation.respond import say
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.wording import words_of
from icebreaker.extras import load_extra
from icebreaker.models.sampling import SamplingConfig

__all__ = ["SpeechEvalConfig", "evaluate_speech"]

SOURCE, CODEC = "source voice", "codec alone"
LOSSES = ("mel_distance", "stoi", "pesq_wb")


@dataclass(frozen=True, kw_only=True)
class SpeechEvalConfig:
    """What is said and who listens.

    Attributes:
        top_k: how codes are drawn, one measurement each.
        recogniser: ``pocketsphinx`` or a Whisper folder.
        mos: ``dnsmos``, a TorchScript file of UTMOS, or "" for none.
        pesq: whether the codec's PESQ is measured (needs a compiled package).
    """

    top_k: tuple[int, ...] = (1, 2, 3, 4, 5)
    recogniser: str = "pocketsphinx"
    mos: str = "dnsmos"
    pesq: bool = True

    def __post_init__(self) -> None:
        if not self.top_k or min(self.top_k) < 1:
            raise ValueError(f"top_k must be 1 or more, got {self.top_k}")


def evaluate_speech(run: Run, items: Sequence[Item], config: SpeechEvalConfig) -> Report:
    """Say the texts of ``items`` and compare with their recordings, which are the source voice."""
    for package in ("pystoi", *(["pesq"] if config.pesq else [])):
        load_extra(package)  # missing: say so now, not after an hour
    recogniser = load_recogniser(config.recogniser)
    judge = load_mos(config.mos) if config.mos else None
    log = run.log("speech", {"recogniser": config.recogniser, "mos": config.mos, "pesq": config.pesq})
    speakers = {f"top-k {k}": _drawing(run.dialogue, k) for k in config.top_k}
    heard = defaultdict[str, list[dict[str, Any]]](list)
    uses = Counter[int]()
    rate, total, done = run.dialogue.sample_rate, len(items) * (len(speakers) + 2), 0
    for item in items:
        real = load_audio(item.audio, rate)
        for way in (SOURCE, CODEC, *speakers):
            key = f"{way}|{item.id}|{item.audio}|{item.text}"
            if key not in log:
                result: dict[str, Any] = {}
                waveform = real
                if way == CODEC:
                    waveform, codes = reconstruct(run.dialogue.parts.codec, real)
                    result = {**compare(real, waveform, rate, pesq=config.pesq), "codes": codes}
                elif way != SOURCE:
                    waveform = say(speakers[way], item.text, seed=run.seed)
                    _keep(run, f"{way}-{item.id}", waveform, rate)
                log.add(key, {**result, **_listen(recogniser, judge, item.text, waveform, rate)})
            heard[way].append(log[key])
            uses.update(log[key].get("codes", []))
            done += 1
            run.progress(done, total)
    return _report(run, config, recogniser.name, heard, uses)


def _drawing(dialogue: Dialogue, top_k: int) -> Dialogue:
    settings = replace(dialogue.settings, speech=SamplingConfig(top_k=top_k))
    return Dialogue(replace(dialogue.parts, settings=settings))


def _listen(
    recogniser: Recogniser, judge: MosPredictor | None, text: str, waveform: NDArray[np.float32], rate: int
) -> dict[str, Any]:
    at_16k = np.asarray(soxr.resample(waveform, rate, RECOGNISER_RATE), dtype=np.float32).clip(-1, 1)
    said = recogniser.transcribe(at_16k) if len(at_16k) else ""
    scores = judge.score(at_16k) if judge is not None else {}
    return {"said": said, **error_counts(words_of(text), said), "mos": scores, "seconds": len(waveform) / rate}


def _keep(run: Run, name: str, waveform: NDArray[np.float32], rate: int) -> None:
    folder = run.out / "said"
    folder.mkdir(parents=True, exist_ok=True)
    save_wav(folder / f"{name.replace(' ', '')}.wav", waveform, rate)


def _report(
    run: Run, config: SpeechEvalConfig, recogniser: str, heard: Mapping[str, list[dict[str, Any]]], uses: Counter[int]
) -> Report:
    if not heard:
        raise ConfigError("no recordings to measure")
    scales = sorted({name for rows in heard.values() for row in rows for name in row["mos"]})
    figures: dict[str, Any] = {}
    for way, rows in heard.items():
        mos = {scale: _mean([row["mos"].get(scale) for row in rows]) for scale in scales}
        figures[way] = {**error_rates(rows), "mos": mos, "sentences": len(rows)}
    figures["codec"] = {name: _mean([row.get(name) for row in heard[CODEC]]) for name in LOSSES}
    codebook = run.dialogue.parts.codec.config.codes
    figures["codec"] |= {"perplexity": perplexity(uses), "codes_used": len(uses), "codes": codebook}
    names = ("who speaks", "WER %", "CER %", *[f"{config.mos}: {scale}" for scale in scales], "n")
    table: list[list[Cell]] = [
        [way, figures[way]["wer"], figures[way]["cer"], *figures[way]["mos"].values(), figures[way]["sentences"]]
        for way in heard
    ]
    tables = [
        Table("Speech out", names, table),
        Table("Codec", ("figure", "value"), [[*each] for each in figures["codec"].items()], digits=3),
        Table("Published: Freeze-Omni, CER % by top-k", ("decoder", "1", "2", "3", "4", "5"),
              [[name, *rates] for name, rates in OUTPUT_CER.items()]),
    ]  # fmt: skip
    notes = [
        f"Recogniser: {recogniser}. Its error on the source voice is the floor. Pooled over all words; CER without "
        "spaces. The model says the given sentences, with its LLM's hidden states as if it had answered with them.",
        "The figures of the codec are for copy synthesis of the source recordings; perplexity is over its codes.",
    ]
    facts = run.facts({"recogniser": recogniser, "mos": config.mos or "none", "sentences": len(heard[SOURCE])})
    chart = Chart("Speech out", "CER, %", {way: figures[way]["cer"] for way in heard})
    return Report("speech", figures, facts, tables, notes, chart)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")

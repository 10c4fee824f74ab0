"""Speech out: is it understood, does it sound natural, and what does the codec lose?

The same sentences are said by the model at each top-k, by the codec alone (copy synthesis), and by the source voice.
One recogniser hears all three: its error on the source voice is the floor of the others. A server cannot be made to
say a sentence: it is sent each as a message, and what it says is compared with its own transcript.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from icebreaker.audio.pcm import load_audio, save_wav
from icebreaker.data.manifest import Item
from icebreaker.dialogue import Dialogue
from icebreaker.dialogue.parts import OmniParts
from icebreaker.errors import ConfigError
from icebreaker.evaluation.codec_quality import compare, perplexity, reconstruct
from icebreaker.evaluation.measures import error_counts, error_rates
from icebreaker.evaluation.mos import MosPredictor, load_mos
from icebreaker.evaluation.published import OUTPUT_CER
from icebreaker.evaluation.recognisers import RECOGNISER_RATE, Recogniser, load_recogniser
from icebreaker.evaluation.report import Cell, Chart, Report, Table
from icebreaker.evaluation.respond import say
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.systems import Server
from icebreaker.evaluation.wording import words_of
from icebreaker.extras import load_extra
from icebreaker.models.sampling import SamplingConfig

__all__ = ["SpeechEvalConfig", "evaluate_speech"]

Waveform = NDArray[np.float32]
SOURCE, CODEC, SERVER, UNITS = "source voice", "codec alone", "server", "units"
LOSSES = ("mel_distance", "stoi", "pesq_wb")


@dataclass(frozen=True, kw_only=True)
class SpeechEvalConfig:
    """What is said and who listens.

    Attributes:
        top_k: how codes are drawn, one measurement each.
        recogniser: ``pocketsphinx``, ``whisper`` or a Whisper folder.
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
    if not items:
        raise ConfigError("no recordings to measure")
    for package in () if isinstance(run.system, Server) else ("pystoi", *(["pesq"] if config.pesq else [])):
        load_extra(package)  # missing: say so now, not after an hour
    recogniser = load_recogniser(config.recogniser)
    judge = load_mos(config.mos) if config.mos else None
    log = run.log("speech", {"recogniser": config.recogniser, "mos": config.mos, "pesq": config.pesq})
    ways = _ways(run, config)
    heard = defaultdict[str, list[dict[str, Any]]](list)
    rate, total, done = run.system.sample_rate, len(items) * len(ways), 0
    for item in items:
        real = load_audio(item.audio, rate)
        for way, speak in ways.items():
            key = f"{way}|{item.id}|{item.audio}|{item.text}"
            if key not in log:
                spoken = speak(item.text, real)
                if way not in (SOURCE, CODEC):
                    _keep(run, f"{way}-{item.id}", spoken.waveform, rate)
                result = _listen(recogniser, judge, spoken.text, spoken.waveform, rate)
                log.add(key, {**spoken.losses, **result})
            heard[way].append(log[key])
            done += 1
            run.progress(done, total)
    return _report(run, config, recogniser.name, heard)


class Spoken(NamedTuple):
    """Something said: what it should be, its sound [S], and for the codec what was lost."""

    text: str
    waveform: Waveform
    losses: dict[str, Any]


def _ways(run: Run, config: SpeechEvalConfig) -> dict[str, Callable[[str, Waveform], Spoken]]:
    """Who speaks, by name: each takes a sentence and its recording."""
    ways: dict[str, Callable[[str, Waveform], Spoken]] = {SOURCE: lambda text, real: Spoken(text, real, {})}
    if isinstance(run.system, Server):
        return {**ways, SERVER: _by_server(run.system, run.seed)}
    if isinstance(run.dialogue.model, OmniParts):
        return {**ways, UNITS: _by_model(run.dialogue, run.seed)}
    codec, rate = run.dialogue.parts.codec, run.dialogue.sample_rate

    def copy(text: str, real: Waveform) -> Spoken:
        made, codes = reconstruct(codec, real)
        return Spoken(text, made, {**compare(real, made, rate, pesq=config.pesq), "codes": codes})

    return {**ways, CODEC: copy, **{f"top-k {k}": _by_model(_drawing(run.dialogue, k), run.seed) for k in config.top_k}}


def _by_model(dialogue: Dialogue, seed: int) -> Callable[[str, Waveform], Spoken]:
    return lambda text, real: Spoken(text, say(dialogue, text, seed=seed), {})


def _by_server(server: Server, seed: int) -> Callable[[str, Waveform], Spoken]:
    def speak(text: str, real: Waveform) -> Spoken:
        answer = server.say(text, seed=seed)
        return Spoken(answer.text, answer.waveform, {})

    return speak


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


def _report(run: Run, config: SpeechEvalConfig, recogniser: str, heard: Mapping[str, list[dict[str, Any]]]) -> Report:
    scales = sorted({name for rows in heard.values() for row in rows for name in row["mos"]})
    figures: dict[str, Any] = {}
    for way, rows in heard.items():
        mos = {scale: _mean([row["mos"].get(scale) for row in rows]) for scale in scales}
        figures[way] = {**error_rates(rows), "mos": mos, "sentences": len(rows)}
    names = ("who speaks", "WER %", "CER %", *[f"{config.mos}: {scale}" for scale in scales], "n")
    table: list[list[Cell]] = [
        [way, figures[way]["wer"], figures[way]["cer"], *figures[way]["mos"].values(), figures[way]["sentences"]]
        for way in heard
    ]
    published: list[list[Cell]] = [[name, *rates] for name, rates in OUTPUT_CER.items()]
    tables = [
        Table("Speech out", names, table),
        Table("Published: Freeze-Omni, CER % by top-k", ("decoder", "1", "2", "3", "4", "5"), published),
    ]
    notes = [
        f"Recogniser: {recogniser}. Its error on the source voice is the floor. Pooled over all words; CER without "
        "spaces. The model says the given sentences, with its LLM's hidden states as if it had answered with them; a "
        "server answers them, and is compared with its own transcript."
    ]
    bars = {way: figures[way]["cer"] for way in heard}
    if CODEC in heard:
        figures["codec"] = _codec_figures(heard[CODEC], run.dialogue.parts.codec.config.codes)
        tables.insert(1, Table("Codec", ("figure", "value"), [[*each] for each in figures["codec"].items()], digits=3))
        notes.append("The codec's figures are for copy synthesis of the recordings; perplexity is over its codes.")
    facts = run.facts({"recogniser": recogniser, "mos": config.mos or "none", "sentences": len(heard[SOURCE])})
    return Report("speech", figures, facts, tables, notes, Chart("Speech out", "CER, %", bars))


def _codec_figures(rows: Sequence[Mapping[str, Any]], codes: int) -> dict[str, float]:
    uses = Counter[int](code for row in rows for code in row["codes"])
    lost = {name: _mean([row.get(name) for row in rows]) for name in LOSSES}
    return {**lost, "perplexity": perplexity(uses), "codes_used": len(uses), "codes": codes}


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")

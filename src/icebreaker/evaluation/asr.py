"""Recognition: error rates of the alignment stage's transcript by chunk size and by voice, or of adaptor tokens."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icebreaker.audio.fbank import Fbank
from icebreaker.data.manifest import Item
from icebreaker.dialogue import Dialogue, Parts
from icebreaker.dialogue.parts import OmniParts
from icebreaker.dialogue.state import Utterance
from icebreaker.errors import ConfigError
from icebreaker.evaluation.measures import error_counts, error_rates
from icebreaker.evaluation.published import RECOGNITION_WER
from icebreaker.evaluation.recognisers import load_recogniser
from icebreaker.evaluation.recordings import with_noise
from icebreaker.evaluation.report import Cell, Chart, Report, Table
from icebreaker.evaluation.respond import chunks_of
from icebreaker.evaluation.run import Run
from icebreaker.evaluation.systems import LocalModel, Server, System
from icebreaker.evaluation.wording import words_of
from icebreaker.models.encoder import Encoder

__all__ = ["evaluate_asr", "transcribe"]

Waveform = NDArray[np.float32]
FULL = 0  # chunk size: the whole recording at once
ALL_LEFT = -1


def evaluate_asr(
    run: Run, items: Sequence[Item], chunk_sizes: Sequence[int], *, snr_db: Sequence[float] = (), by_voice: bool = True,
    beside: Sequence[str] = (),
) -> Report:  # fmt: skip
    """Transcribe ``items`` at each chunk size (encoder frames of 40 ms; 0: full context), as recorded and with noise.

    A server has one way to listen: its input transcripts; a LLaMA-Omni, too: the tokens that its adaptor ends in.
    The recognisers ``beside`` hear the same recordings: how hard they are.
    """
    recognisers = [load_recogniser(name) for name in beside]
    listeners = _listeners(run.system, chunk_sizes) | {each.name: each.transcribe for each in recognisers}
    log = run.log("asr", {})
    counts = defaultdict[tuple[str, str, str], list[dict[str, Any]]](list)
    conditions = [None, *snr_db]
    total, done = len(items) * len(listeners) * len(conditions), 0
    for condition in conditions:
        for way, listen in listeners.items():
            for item in items:
                noise = "as recorded" if condition is None else f"{condition:g} dB"
                key = f"{way}|{noise}|{item.id}|{item.audio}|{item.text}"
                if key not in log:
                    heard = listen(with_noise(item.audio, condition, f"{run.seed}|{item.id}"))
                    log.add(key, {"heard": heard, **error_counts(words_of(item.text), words_of(heard))})
                for voice in ("all", item.voice or "unknown")[: 1 + by_voice]:
                    counts[way, noise, voice].append(log[key])
                done += 1
                run.progress(done, total)
    return _report(run, counts, {"snr_db": [*snr_db], "recordings": len(items), "beside": [*beside]})


def _listeners(system: System, chunk_sizes: Sequence[int]) -> dict[str, Callable[[Waveform], str]]:
    """Ways to listen, by name."""
    if isinstance(system, Server):
        return {"as served": lambda waveform: words_of(system.transcribe(waveform))}
    if isinstance(system, LocalModel) and isinstance(system.dialogue.model, OmniParts):
        return _readers(system.dialogue, system.dialogue.model)
    known = isinstance(system, LocalModel) and isinstance(system.dialogue.model, Parts)
    if not isinstance(system, LocalModel) or not known or not system.dialogue.settings.transcribe:
        raise ConfigError(
            "this model's layout of stage 2 (its transcription prompt) is not known; sqa measures its ears"
        )
    dialogue = system.dialogue
    passes = _passes(dialogue)
    return {_name(size) + name: _at(dialogue, size, second) for size in chunk_sizes for name, second in passes.items()}


def _passes(dialogue: Dialogue) -> dict[str, bool]:
    """With the second pass or without, by what is added to the name; where there is one, both are of interest."""
    return {"": False} if dialogue.second_pass is None else {"": True, ", first pass alone": False}


def _readers(dialogue: Dialogue, parts: OmniParts) -> dict[str, Callable[[Waveform], str]]:
    """What the LLM is given to read: only adaptors that end in tokens can tell.

    Raises:
        ConfigError: this one does not.
    """
    encoder, adaptor, lookup = parts.encoder, parts.adaptor, parts.adaptor.lookup
    if lookup is None or not isinstance(encoder, Encoder) or not isinstance(parts.features, Fbank):
        raise ConfigError("this model gives its LLM vectors that are no tokens, so nothing to score; sqa measures ears")
    fbank = parts.features

    @torch.inference_mode()
    def read(waveform: Waveform, second: bool) -> str:
        padded = chunks_of(waveform).view(1, -1).to(lookup.tokens.device)
        features, _ = fbank(padded, fbank.initial_state(1))
        frames, _ = encoder(features, encoder.initial_state(1))
        vectors = adaptor.vectors(frames)[0]
        return dialogue.transcribe(Utterance(0, (lookup(vectors),), vectors=(vectors,) if second else ()))

    passes = _passes(dialogue)
    return {f"its ears' tokens{name}": partial(read, second=second) for name, second in passes.items()}


def _at(dialogue: Dialogue, chunk_size: int, second: bool) -> Callable[[Waveform], str]:
    return lambda waveform: transcribe(dialogue, torch.from_numpy(waveform), chunk_size, second=second)


def _report(
    run: Run, counts: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]], options: Mapping[str, Any]
) -> Report:
    figures = {" | ".join(place): {**error_rates(rows), "recordings": len(rows)} for place, rows in counts.items()}
    rows: list[list[Cell]] = [
        [*place, f["wer"], f["cer"], f["recordings"]] for place, f in zip(counts, figures.values(), strict=True)
    ]
    tables = [
        Table("Recognition", ("chunk", "noise", "voice", "WER %", "CER %", "recordings"), rows),
        Table("Published, LibriSpeech", ("system", "test-clean WER %", "test-other WER %"),
              [[name, *rates] for name, rates in RECOGNITION_WER.items()]),
    ]  # fmt: skip
    bars = {
        f"{way}, {noise}": figures[f"{way} | {noise} | all"]["wer"] for way, noise, voice in counts if voice == "all"
    }
    notes = ["Pooled over all words; lower case, no punctuation, numbers in words. CER without spaces."]
    return Report("asr", figures, run.facts(options), tables, notes, Chart("Recognition", "WER, %", bars))


@torch.inference_mode()
def transcribe(dialogue: Dialogue, waveform: torch.Tensor, chunk_size: int, *, second: bool = True) -> str:
    """What the alignment stage hears in ``waveform`` [S]; the encoder sees chunks of ``chunk_size`` frames.

    ``second``: with the second pass, where the model has one.
    """
    parts = dialogue.parts
    padded = chunks_of(waveform.numpy()).view(1, -1)
    device = parts.turn_head.linear.weight.device
    config = parts.encoder.config
    features, _ = parts.fbank(padded.to(device), parts.fbank.initial_state(1))
    if chunk_size == config.chunk_size:  # exactly as in a conversation
        frames, _ = parts.encoder(features, parts.encoder.initial_state(1))
    else:
        lengths = torch.tensor([features.shape[1]], device=device)
        left = ALL_LEFT if chunk_size <= FULL else config.left_chunks
        frames, _ = parts.encoder.encode(features, lengths, chunk_size=chunk_size, left_chunks=left)
    vectors, _ = parts.adapter.project_frames(frames, parts.adapter.initial_state(1))
    lookup = parts.adapter.lookup
    if lookup is None:
        return dialogue.transcribe(Utterance(0, (vectors[0],)))
    return dialogue.transcribe(Utterance(0, (lookup(vectors[0]),), (vectors[0],) if second else ()))


def _name(chunk_size: int) -> str:
    return "full context" if chunk_size <= FULL else f"{chunk_size} ({40 * chunk_size} ms)"

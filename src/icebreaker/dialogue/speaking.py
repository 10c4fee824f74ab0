"""The second half of a step: segments of text to codes to sound. Knows nothing of listening or of turns."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from icebreaker.dialogue.parts import Parts
from icebreaker.dialogue.state import DialogueState, Manner, Reply, Row, Speaking, with_row
from icebreaker.dialogue.word_ends import word_ends
from icebreaker.errors import ConfigError
from icebreaker.models.codec_lm import CodecLMState
from icebreaker.models.codec_stream import CodecStream, CodecStreamState, OfficialWaveOut
from icebreaker.models.sampling import sample
from icebreaker.streaming import put_row, put_rows, take_rows
from icebreaker.text.heard import SpokenSegment
from icebreaker.text.rules import post_process
from icebreaker.text.segment import Segment, Segmenter
from icebreaker.text.spoken import spoken_text

__all__ = ["Speaker"]

SEGMENT_TOKENS = 100  # what a fresh speech cache has room for, text and hidden states each; it grows when needed
SECONDS_PER_LETTER = 0.075  # of slow speech: how long a segment of which only a part exists will be at most


class Speaker:
    """Speaks for the rows of a dialogue that have something to say."""

    reads_last = False  # the state at the last token is not wanted

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.settings = parts.settings
        self.segmenter = Segmenter(parts.settings.segmenter)
        self.stream = CodecStream(parts.codec)
        wave = parts.settings.wave_out
        self.official = OfficialWaveOut(parts.codec, parts.voice, wave) if wave.rule == "official" else None
        layers = range(parts.codec_lm.config.blocks)
        if wrong := set(self.settings.alignment_layers).difference(layers):
            raise ConfigError(
                f"alignment_layers: {wrong.pop()} is none of the speech decoder's layers 0 to {layers[-1]}; leave it "
                "empty where none was trained to look at the words it speaks"
            )

    @property
    def sample_rate(self) -> int:
        """Of the answers, in Hz."""
        return self.parts.codec.config.sample_rate

    def begin(self, index: int, base: int, state: DialogueState) -> tuple[Reply, DialogueState]:
        """A reply of no token yet."""
        return Reply(base, self.segmenter.initial_state()), state

    def wrote(self, reply: Reply, manner: Manner) -> Reply:
        """One token more was written: it may complete segments."""
        if not manner.spoken:
            return reply
        aloud = manner.aloud(reply.text) if manner.aloud else reply.text
        segments, segmenter = self.segmenter.push(aloud, reply.segmenter, reply.packets)
        return replace(reply, segmenter=segmenter, queue=(*reply.queue, *segments))

    def finished(self, reply: Reply, manner: Manner) -> Reply:
        """The text is complete: what is left of it is a segment."""
        if not manner.spoken:
            return reply
        aloud = manner.aloud(reply.text) if manner.aloud else reply.text
        return replace(reply, queue=(*reply.queue, *self.segmenter.finish(aloud, reply.segmenter)))

    def initial_speech(self, batch: int) -> CodecLMState:
        """An empty cache for a batch."""
        split = self.parts.codec_lm.config.split
        return self.parts.codec_lm.initial_state(batch, 2 * split * SEGMENT_TOKENS + 1 + self.settings.max_codes)

    def initial_wave(self, batch: int) -> CodecStreamState:
        """The state of the exact wave-out for a batch."""
        return self.stream.initial_state(batch)

    def prefill(self, state: DialogueState, rows: Collection[int] | None = None) -> DialogueState:
        """Start the next segment of each row (of ``rows``) that has one waiting and is not speaking."""
        for i, row in enumerate(state.rows):
            if rows is not None and i not in rows:
                continue
            while row.reply is not None and row.reply.speaking is None and row.reply.queue:
                row, state = self._start(i, row, row.reply, state)
        return state

    def draw(
        self, state: DialogueState, rows: Collection[int] | None = None, seconds: Mapping[int, float] | None = None
    ) -> tuple[dict[int, list[int]], DialogueState]:
        """Draw codes for each speaking row (of ``rows``): ``codes_per_step``, or for about ``seconds`` of new sound."""
        speaking = {
            i: row.reply.speaking
            for i, row in enumerate(state.rows)
            if row.reply and row.reply.speaking and (rows is None or i in rows)
        }
        drawn: dict[int, list[int]] = {i: [] for i in speaking}
        few = self.settings.codes_per_step
        counts = {i: few if seconds is None else self._codes_for(seconds[i], now) for i, now in speaking.items()}
        for number in range(max(counts.values(), default=0)):
            busy = [i for i, now in speaking.items() if not now.ended and number < counts[i]]
            if not busy:
                break
            codes, state = self._next_codes({i: speaking[i] for i in busy}, state)
            for i, code in codes.items():
                speaking[i], new = self._take(code, speaking[i])
                drawn[i] += new
        for i, now in speaking.items():
            state = _with_reply(state, i, speaking=now)
        return drawn, state

    def render(self, drawn: Mapping[int, list[int]], state: DialogueState) -> tuple[list[Tensor], DialogueState]:
        """Turn the codes just drawn into sound: [S] of new audio for each row."""
        audio = [self.parts.llm.embedding.weight.new_zeros(0)] * len(state.rows)
        if not drawn:
            return audio, state
        new, state = self._render(drawn, state) if self.official is None else self._render_official(drawn, state)
        for i, waveform in new.items():
            now = _speaking(state, i)
            audio[i] = waveform[now.left_out :]
            if now.left_out:
                left_out = max(0, now.left_out - len(waveform))
                state = _with_reply(state, i, speaking=replace(now, left_out=left_out))
            state = _heard_next(state, i, len(audio[i]))
        return audio, state

    def spans(self, reply: Reply, *, words: bool = False) -> tuple[SpokenSegment, ...]:
        """Where each segment's audio lies; the end of the one being spoken is estimated, rather too late.

        With ``words`` also where each word ends, if the speech decoder was trained to know.
        """
        spans, codes = reply.spoken, reply.codes
        if now := reply.speaking:
            longest = int(len(now.segment.text) * SECONDS_PER_LETTER * self.sample_rate)
            stop = max(reply.samples, now.start_sample + longest)
            spans, codes = (*spans, SpokenSegment(now.segment, now.start_sample, stop)), (*codes, now.history)
        if not words or not self.settings.alignment_layers:
            return spans
        return tuple(
            self._with_words(span, drawn, reply, whole=place < len(reply.spoken)) if drawn else span
            for place, (span, drawn) in enumerate(zip(spans, codes, strict=True))
        )

    def _with_words(self, span: SpokenSegment, codes: tuple[int, ...], reply: Reply, *, whole: bool) -> SpokenSegment:
        segment, hop = span.segment, self.parts.codec.config.hop_length
        hidden = torch.stack(reply.hidden[segment.start : segment.stop])
        ends = word_ends(self.parts, segment.text, self._spoken_text(segment), hidden, codes, whole=whole)
        start = span.start_sample - min(self._left_out(span.start_sample), hop * len(codes))
        return replace(span, words=tuple((letters, max(0, start + hop * count)) for letters, count in ends))

    def _start(self, index: int, row: Row, reply: Reply, state: DialogueState) -> tuple[Row, DialogueState]:
        segment, *queue = reply.queue
        text = self._spoken_text(segment)
        ids = self.parts.llm.tokenizer.encode(text, add_special_tokens=False) if text else []
        if ids:
            wave = self.official.initial_state(reply.packets == 0) if self.official else None
            left_out = self._left_out(reply.samples)
            speaking = Speaking(segment, self.parts.codec_lm.config.sos, reply.samples, wave=wave, left_out=left_out)
            reply = replace(reply, queue=tuple(queue), speaking=speaking)
            state = self._prefill_row(index, ids, torch.stack(reply.hidden[segment.start : segment.stop]), state)
        else:  # nothing in it can be spoken, but the user has seen it pass
            silent = SpokenSegment(segment, reply.samples, reply.samples)
            reply = replace(reply, queue=tuple(queue), spoken=(*reply.spoken, silent), codes=(*reply.codes, ()))
        row = replace(row, reply=reply)
        return row, with_row(state, index, reply=reply)

    def _codes_for(self, seconds: float, now: Speaking) -> int:
        """How many codes give so much new sound, with those whose sound the codec holds back at first."""
        hop = self.parts.codec.config.hop_length
        held = 0 if self.official else -(-(self.stream.delay_samples + self._left_out(now.start_sample)) // hop)
        return math.ceil(seconds * self.sample_rate / hop) + max(0, held - len(now.history))

    def _left_out(self, start_sample: int) -> int:
        """Samples of a segment that begins there which nobody is given: of the silence before a reply."""
        quiet = self.settings.silent_codes if start_sample == 0 and self.official is None else 0
        return quiet * self.parts.codec.config.hop_length

    def _spoken_text(self, segment: Segment) -> str:
        return post_process(segment.text) if self.settings.spoken == "official" else spoken_text(segment.text)

    def _prefill_row(self, index: int, ids: list[int], hidden: Tensor, state: DialogueState) -> DialogueState:
        parts, batch = self.parts, len(state.rows)
        lm = parts.codec_lm
        text = parts.llm.embed(torch.tensor([ids], device=hidden.device)).to(hidden.dtype)
        needed = lm.config.split * (len(ids) + len(hidden)) + 1 + self.settings.max_codes
        speech = _grown(_speech(state), needed)
        lengths = torch.zeros(batch, dtype=torch.long, device=hidden.device)
        text_lengths, hidden_lengths = lengths.clone(), lengths.clone()
        text_lengths[index], hidden_lengths[index] = len(ids), len(hidden)
        speech = lm.prefill(
            text.expand(batch, -1, -1), text_lengths,
            hidden[None].expand(batch, -1, -1) if lm.config.prefix else None,
            hidden_lengths if lm.config.prefix else None,
            speech,
        )  # fmt: skip
        return state._replace(speech=speech, wave=put_row(state.wave, index, self.stream.initial_state(1)))

    def _next_codes(
        self, speaking: Mapping[int, Speaking], state: DialogueState
    ) -> tuple[dict[int, int], DialogueState]:
        """The next code of each row, from one call over the slots from the first of them to the last."""
        lm, first, stop = self.parts.codec_lm, min(speaking), max(speaking) + 1
        speech = _speech(state)
        slots = CodecLMState(*(tensor[first:stop] for tensor in speech))
        codes = torch.zeros_like(slots.length)
        active = torch.zeros_like(codes, dtype=torch.bool)
        for i, now in speaking.items():
            codes[i - first], active[i - first] = now.last, True
        logits, slots = lm.step(codes, slots, active)
        if self.settings.mask_special_codes:
            logits[:, [lm.config.bos, lm.config.sos, lm.config.pad]] = -torch.inf
        length, position = speech.length.clone(), speech.position.clone()
        length[first:stop], position[first:stop] = slots.length, slots.position
        state = state._replace(speech=speech._replace(length=length, position=position))
        if self.settings.speech.greedy and self.settings.speech.repetition_penalty == 1:
            best = logits.argmax(-1).tolist()
            return {i: best[i - first] for i in speaking}, state
        return {i: self._draw_one(logits[i - first], now, state.rows[i]) for i, now in speaking.items()}, state

    def _draw_one(self, logits: Tensor, now: Speaking, row: Row) -> int:
        history = (self.parts.codec_lm.config.sos, *now.history)  # the official penalty counts sos too
        past = torch.tensor([history], dtype=torch.long, device=logits.device)
        return int(sample(logits[None], self.settings.speech, past, row.voice or row.generator)[0])

    def _take(self, code: int, now: Speaking) -> tuple[Speaking, list[int]]:
        config = self.parts.codec_lm.config
        if code == config.eos:
            return replace(now, ended=True), []
        if code >= config.codes:
            raise ValueError(
                f"the speech decoder drew the special id {code}, which no codec can decode; "
                "set mask_special_codes to avoid it"
            )
        history = (*now.history, code)
        return replace(now, last=code, history=history, ended=len(history) >= self.settings.max_codes), [code]

    def _render(self, drawn: Mapping[int, list[int]], state: DialogueState) -> tuple[dict[int, Tensor], DialogueState]:
        """Rows of about as many codes together, and those that end, which bring out what the codec holds back, apart:
        nobody's work is padded to somebody else's."""
        groups: dict[tuple[bool, int], dict[int, list[int]]] = {}
        for i, new in drawn.items():
            key = _speaking(state, i).ended, -(-len(new) // self.settings.codes_per_step)
            groups.setdefault(key, {})[i] = new
        sound: dict[int, Tensor] = {}
        for (ends, _), rows in groups.items():
            new_sound, state = self._render_some(rows, ends, state)
            sound |= new_sound
        return sound, state

    def _render_some(
        self, drawn: Mapping[int, list[int]], ends: bool, state: DialogueState
    ) -> tuple[dict[int, Tensor], DialogueState]:
        device = _speech(state).length.device
        rows = torch.tensor(list(drawn), device=device)
        codes = torch.zeros(len(drawn), max(1, *map(len, drawn.values())), dtype=torch.long, device=device)
        for j, new in enumerate(drawn.values()):
            codes[j, : len(new)] = torch.tensor(new, dtype=torch.long, device=device)
        lengths = torch.tensor([len(new) for new in drawn.values()], device=device)
        last = torch.full_like(lengths, ends, dtype=torch.bool)
        assert state.wave is not None
        waveform, samples, wave = self.stream(codes, lengths, last, take_rows(state.wave, rows), self.parts.voice)
        sound = {i: waveform[j, : int(samples[j])] for j, i in enumerate(drawn)}
        return sound, state._replace(wave=put_rows(state.wave, rows, wave))

    def _render_official(
        self, drawn: Mapping[int, list[int]], state: DialogueState
    ) -> tuple[dict[int, Tensor], DialogueState]:
        audio = {}
        for i, codes in drawn.items():
            now = _speaking(state, i)
            assert self.official is not None
            assert now.wave is not None
            pieces, wave = self.official.push(codes, now.wave, last=now.ended)
            audio[i] = torch.cat([self.parts.llm.embedding.weight.new_zeros(0), *pieces])
            state = _with_reply(state, i, speaking=replace(now, wave=wave))
        return audio, state


def _speech(state: DialogueState) -> CodecLMState:
    assert isinstance(state.speech, CodecLMState)
    return state.speech


def _speaking(state: DialogueState, index: int) -> Speaking:
    reply = state.rows[index].reply
    assert reply is not None
    assert reply.speaking is not None
    return reply.speaking


def _heard_next(state: DialogueState, index: int, new_samples: int) -> DialogueState:
    """Count new audio, and close the segment if it is complete."""
    reply, now = state.rows[index].reply, _speaking(state, index)
    assert reply is not None
    samples, packets = reply.samples + new_samples, reply.packets + int(new_samples > 0)
    if not now.ended:
        return _with_reply(state, index, samples=samples, packets=packets)
    spoken = (*reply.spoken, SpokenSegment(now.segment, now.start_sample, samples))
    codes = (*reply.codes, now.history)
    return _with_reply(state, index, samples=samples, packets=packets, speaking=None, spoken=spoken, codes=codes)


def _grown(state: CodecLMState, needed: int) -> CodecLMState:
    """A cache with room for ``needed`` entries a row: the same one, or a larger copy."""
    have = state.keys.shape[3] - 1
    if needed <= have:
        return state
    shape = (*state.keys.shape[:3], needed + 1, state.keys.shape[4])
    keys, values = state.keys.new_empty(shape), state.values.new_empty(shape)
    keys[..., :have, :], values[..., :have, :] = state.keys[..., :have, :], state.values[..., :have, :]
    return state._replace(keys=keys, values=values)


def _with_reply(state: DialogueState, index: int, **changes: object) -> DialogueState:
    reply = state.rows[index].reply
    assert reply is not None
    return with_row(state, index, reply=replace(reply, **changes))  # type: ignore[arg-type]

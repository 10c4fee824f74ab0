// A streaming change of sample rate by a windowed sinc. Knows nothing of audio devices.

const ZEROS = 14; // zero crossings of the sinc on each side: about 80 dB outside the band
const STEPS = 256; // table entries between two zero crossings; linear in between
const ROLLOFF = 0.94; // of the lower half rate: what passes

/** Half of the filter: a sinc under a Blackman window, from its centre to its last zero. */
function table() {
  const half = new Float32Array(ZEROS * STEPS + 2);
  for (let i = 0; i < ZEROS * STEPS; i++) {
    const t = i / STEPS, x = Math.PI * t, w = (Math.PI * t) / ZEROS;
    half[i] = (i ? Math.sin(x) / x : 1) * (0.42 + 0.5 * Math.cos(w) + 0.08 * Math.cos(2 * w));
  }
  return half;
}

const FILTER = table();

/** One mono stream from `from` Hz to `to` Hz. Give it blocks of any length. */
export class Resampler {
  constructor(from, to) {
    if (!(from > 0 && to > 0)) throw new RangeError(`expected positive sample rates, got ${from} and ${to}`);
    this.step = from / to; // input samples an output sample
    this.scale = Math.min(1, to / from) * ROLLOFF; // cutoff, of half the input rate
    this.reach = Math.ceil(ZEROS / this.scale); // input samples to each side
    this.input = new Float32Array(this.reach); // silence before the start, then what is still needed
    this.at = this.reach; // where in `input` the next output sample lies
  }

  /** Float32 samples in [-1, 1] in; the output samples that they complete out. */
  push(block) {
    if (this.step === 1) return block.slice();
    const input = new Float32Array(this.input.length + block.length);
    input.set(this.input);
    input.set(block, this.input.length);
    const count = Math.max(0, Math.ceil((input.length - this.reach - this.at) / this.step));
    const output = new Float32Array(count);
    for (let i = 0; i < count; i++) output[i] = this.sample(input, this.at + i * this.step);
    this.at += count * this.step;
    const keep = Math.max(0, Math.floor(this.at) - this.reach);
    this.input = input.slice(keep);
    this.at -= keep;
    return output;
  }

  /** The rest, after the last block. */
  flush() {
    return this.step === 1 ? new Float32Array(0) : this.push(new Float32Array(this.reach));
  }

  sample(input, at) {
    const first = Math.max(0, Math.ceil(at - this.reach));
    const last = Math.min(input.length - 1, Math.floor(at + this.reach));
    let sum = 0;
    for (let k = first; k <= last; k++) {
      const place = Math.abs(at - k) * this.scale * STEPS;
      if (place >= ZEROS * STEPS) continue;
      const i = place | 0;
      sum += input[k] * (FILTER[i] + (place - i) * (FILTER[i + 1] - FILTER[i]));
    }
    return sum * this.scale;
  }
}

// Runs beside the audio device: plays replies through the jitter buffer and tells how much was played.

import { JitterBuffer } from "./jitter.js";
import { Resampler } from "./resample.js";

const WIRE_RATE = 24000;
const REPORT_BLOCKS = 12; // of 128 samples: about 30 ms

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer(sampleRate);
    this.resamplers = new Map(); // by item
    this.blocks = 0;
    this.energy = 0;
    this.port.onmessage = ({ data }) => this[data.do](data);
  }

  push({ item, pcm }) {
    if (!this.resamplers.has(item)) this.resamplers.set(item, new Resampler(WIRE_RATE, sampleRate));
    const samples = Float32Array.from(new Int16Array(pcm), (value) => value / 32768);
    this.buffer.push(item, this.resamplers.get(item).push(samples));
  }

  end({ item }) {
    const resampler = this.resamplers.get(item);
    if (resampler) this.buffer.push(item, resampler.flush());
    this.resamplers.delete(item);
    this.buffer.end(item);
  }

  clear({ token }) {
    this.resamplers.clear();
    this.port.postMessage({ kind: "cleared", token, heard: this.buffer.clear() });
  }

  hold() {
    this.buffer.hold();
  }

  goOn() {
    this.buffer.goOn();
  }

  process(_, outputs) {
    const [first, ...others] = outputs[0];
    this.buffer.pull(first);
    for (const channel of others) channel.set(first);
    for (const value of first) this.energy += value * value;
    for (const event of this.buffer.takeEvents()) this.port.postMessage(event);
    this.blocks += 1;
    if (this.blocks % REPORT_BLOCKS === 0) this.report();
    return true;
  }

  report() {
    const level = Math.sqrt(this.energy / (REPORT_BLOCKS * 128));
    this.energy = 0;
    this.port.postMessage({ kind: "progress", level, ...this.buffer.playing });
  }
}

registerProcessor("playback", Playback);

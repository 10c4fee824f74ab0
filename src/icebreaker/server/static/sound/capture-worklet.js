// Runs beside the audio device: what is heard, as PCM16 at 24 kHz in blocks of 20 ms, each with its level.

import { Resampler } from "./resample.js";

const WIRE_RATE = 24000;
const BLOCK = 480; // samples: 20 ms

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, WIRE_RATE);
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.energy = 0;
  }

  process(inputs) {
    const channels = inputs[0];
    const mono = new Float32Array(128); // silence where nothing is connected
    for (const channel of channels) for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / channels.length;
    for (const value of this.resampler.push(mono)) this.add(Math.max(-1, Math.min(1, value)));
    return true;
  }

  add(value) {
    this.energy += value * value;
    this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
    if (this.filled < BLOCK) return;
    const pcm = this.block.buffer;
    this.port.postMessage({ pcm, level: Math.sqrt(this.energy / BLOCK) }, [pcm]);
    this.block = new Int16Array(BLOCK);
    this.filled = this.energy = 0;
  }
}

registerProcessor("capture", Capture);

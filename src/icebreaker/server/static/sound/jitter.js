// What waits to be played, and how much of it was. Knows nothing of devices; `pull` is its only clock.

const LEAST_MS = 60; // of sound that waits before a reply begins
const MOST_MS = 400;
const FIRST_MS = 80;
const FADE_MS = 5; // of a sound that is cut or goes on in its middle, or it would click

/** Replies one after the other, each played from its first sample to its last without being stretched. */
export class JitterBuffer {
  constructor(rate) {
    this.rate = rate; // Hz
    this.targetMs = FIRST_MS;
    this.replies = []; // {item, blocks, offset, waiting, played, ended, underruns, flowing}
    this.fade = new Float32Array(0);
    this.isHeld = false;
    this.rising = 0; // samples that are still faded in
    this.events = []; // since they were last taken
  }

  /** More samples of `item`, at the buffer's rate. */
  push(item, samples) {
    const reply = this.reply(item);
    if (samples.length) reply.blocks.push(samples);
    reply.waiting += samples.length;
  }

  /** Nothing more comes of `item`. */
  end(item) {
    const reply = this.replies.find((each) => each.item === item);
    if (reply) reply.ended = true;
  }

  /** Fall silent. What was heard: `{item, playedMs}` for each reply that was not over, the one that played first. */
  clear() {
    const heard = this.replies.map((reply) => ({ item: reply.item, playedMs: this.ms(reply.played) }));
    this.fadeOut();
    this.replies = [];
    this.isHeld = false;
    this.rising = 0;
    return heard;
  }

  /** Pause at once, and keep what waits. */
  hold() {
    this.fadeOut();
    this.isHeld = true;
  }

  /** Play on at the very next sample. */
  goOn() {
    if (this.isHeld && this.replies[0]?.flowing) this.rising = this.fadeLength;
    this.isHeld = false;
  }

  /** The next `out.length` samples into `out`; silence where there is nothing. */
  pull(out) {
    out.fill(0);
    for (let i = 0; i < Math.min(out.length, this.fade.length); i++) out[i] = this.fade[i];
    this.fade = this.fade.slice(out.length);
    let at = 0;
    while (at < out.length && this.replies.length && !this.isHeld) {
      const reply = this.replies[0];
      if (!reply.flowing && !this.ready(reply)) break;
      if (!reply.flowing) this.begin(reply);
      at = this.copy(reply, out, at);
      if (at < out.length && !this.dry(reply)) break;
    }
    for (let i = 0; i < at && this.rising > 0; i++) out[i] *= 1 - this.rising-- / this.fadeLength;
  }

  /** What is playing: `{item, playedMs, bufferedMs}`, or null. */
  get playing() {
    const reply = this.replies[0];
    return reply ? { item: reply.item, playedMs: this.ms(reply.played), bufferedMs: this.ms(reply.waiting) } : null;
  }

  takeEvents() {
    return this.events.splice(0);
  }

  reply(item) {
    let reply = this.replies.find((each) => each.item === item);
    if (!reply) {
      reply = { item, blocks: [], offset: 0, waiting: 0, played: 0, ended: false, underruns: 0, flowing: false };
      this.replies.push(reply);
    }
    return reply;
  }

  ready(reply) {
    return reply.ended || this.ms(reply.waiting) >= this.targetMs;
  }

  begin(reply) {
    reply.flowing = true;
    if (!reply.played && reply.waiting) this.events.push({ kind: "started", item: reply.item });
  }

  copy(reply, out, at) {
    while (at < out.length && reply.blocks.length) {
      const block = reply.blocks[0];
      const count = Math.min(out.length - at, block.length - reply.offset);
      for (let i = 0; i < count; i++) out[at + i] += block[reply.offset + i];
      at += count;
      reply.offset += count;
      reply.played += count;
      reply.waiting -= count;
      if (reply.offset === block.length) {
        reply.blocks.shift();
        reply.offset = 0;
      }
    }
    return at;
  }

  /** A reply has nothing more to play now: over (true, the next one may begin), or late. */
  dry(reply) {
    if (reply.ended) {
      this.replies.shift();
      if (!reply.underruns) this.targetMs = Math.max(LEAST_MS, this.targetMs * 0.9);
      this.events.push({ kind: "finished", item: reply.item, playedMs: this.ms(reply.played) });
      return true;
    }
    reply.flowing = false;
    reply.underruns += 1;
    this.targetMs = Math.min(MOST_MS, this.targetMs * 1.5);
    this.events.push({ kind: "underrun", item: reply.item, playedMs: this.ms(reply.played), targetMs: this.targetMs });
    return false;
  }

  /** Let the sound that plays die away, in a copy of what comes next. */
  fadeOut() {
    const reply = this.replies[0];
    if (!reply?.flowing || this.isHeld) return;
    const out = new Float32Array(this.fadeLength);
    this.copy({ ...reply, blocks: [...reply.blocks] }, out, 0);
    this.fade = out.map((value, i) => value * (1 - i / out.length));
  }

  get fadeLength() {
    return Math.round((FADE_MS * this.rate) / 1000);
  }

  ms(samples) {
    return (1000 * samples) / this.rate;
  }
}

// The replies as they arrive and play: sound to the loudspeaker, words to the transcript, marks to the stopwatch.

import { Stopwatch } from "./latency.js";

export class Replies {
  /** `send(event)` to the server; `changed()` when something was shown or played. */
  constructor({ sound, transcript, turn, send, changed }) {
    Object.assign(this, { sound, transcript, turn, send, changed });
    this.next = null; // stopwatch of the reply to come
    this.watches = new Map(); // by response
    this.ofItem = new Map(); // response of an item
    this.stopped = new Set(); // responses whose further sound is not wanted
    this.active = null; // response under way
  }

  /** A reply was asked for: `asked` is when the user's speech ended, or the text was sent; `taken` when decided. */
  expect(asked, taken) {
    this.next = new Stopwatch(asked);
    if (taken !== undefined) this.next.mark("turn", taken);
  }

  get canInterrupt() {
    return Boolean(this.active) || this.turn.playing;
  }

  /** A server event about a reply; `now` in milliseconds. */
  event(message, now) {
    const watch = this.watches.get(message.response_id);
    switch (message.type) {
      case "response.created":
        this.begin(message.response.id, now);
        break;
      case "response.output_item.added":
        this.ofItem.set(message.item.id, message.response_id);
        this.transcript.add(message.item);
        break;
      case "response.output_text.delta":
      case "response.output_audio_transcript.delta":
        watch?.mark("text", now);
        this.transcript.write(message.item_id, { delta: message.delta });
        this.tell(message.item_id);
        break;
      case "response.output_audio.delta":
        watch?.mark("sound", now);
        this.hear(message);
        break;
      case "response.output_audio.done":
        this.sound.end(message.item_id);
        this.transcript.sound(message.item_id, { ended: true });
        break;
      case "response.output_text.done":
      case "response.output_audio_transcript.done":
        this.transcript.write(message.item_id, { done: true });
        break;
      case "icebreaker.playback.hold": // somebody may be interrupting
        this.sound.hold();
        break;
      case "icebreaker.playback.go_on":
        this.sound.goOn();
        break;
      case "response.done":
        if (this.active === message.response.id) this.active = null;
        break;
    }
  }

  begin(id, now) {
    const watch = this.next ?? new Stopwatch(now);
    watch.mark("turn", now);
    this.next = null;
    this.active = id;
    this.watches.set(id, watch);
  }

  hear({ response_id: response, item_id: item, delta }) {
    if (this.stopped.has(response)) return;
    this.transcript.sound(item, { arrivedMs: this.sound.push(item, delta) });
    this.turn.playing = true;
  }

  tell(item) {
    const watch = this.watches.get(this.ofItem.get(item));
    if (watch) this.transcript.latency(item, watch.parts());
  }

  /** What the loudspeaker does (see `sound/jitter.js`). */
  played(event, now) {
    const { kind, item, playedMs } = event;
    if (kind === "started") {
      this.watches.get(this.ofItem.get(item))?.mark("audible", now + this.sound.latencyMs);
      this.tell(item);
    }
    if (item && playedMs !== undefined && !this.stopped.has(this.ofItem.get(item))) this.transcript.sound(item, { playedMs });
    if (kind === "progress") this.turn.playing = item !== undefined;
    this.changed();
  }

  /** Stop speaking. Tells the server how much was heard, so that the model forgets the rest. */
  async interrupt({ cancel }) {
    if (cancel && this.active) this.send({ type: "response.cancel", response_id: this.active });
    for (const id of this.watches.keys()) this.stopped.add(id); // before waiting: more of them may arrive meanwhile
    const heard = await this.sound.clear();
    this.turn.playing = false;
    for (const { item, playedMs } of heard) {
      this.transcript.sound(item, { playedMs });
      this.transcript.cut(item, playedMs);
      this.send({ type: "conversation.item.truncate", item_id: item, content_index: 0, audio_end_ms: Math.round(playedMs) });
    }
    this.changed();
    return heard;
  }

  /** Everything of a conversation that is over. */
  forget() {
    this.active = this.next = null;
    for (const each of [this.watches, this.ofItem, this.stopped]) each.clear();
  }
}

// What was said, in order. Knows nothing of the page; every change calls `onchange(line)`.

/** One message: who, its words, and how much of them was heard. */
class Line {
  constructor(id, role) {
    Object.assign(this, { id, role, text: "", done: false, spoken: false, heard: null, heardMs: null, parts: null });
    this.playedMs = 0; // of its sound
    this.soundMs = 0; // that arrived
    this.soundDone = false;
  }

  /** Letters that have probably been heard while it plays; all of a line without sound. */
  get reached() {
    if (this.heard !== null) return this.heard.length;
    if (!this.spoken) return this.text.length;
    const whole = this.soundDone ? this.soundMs : Math.max(this.soundMs, this.text.length * MS_PER_LETTER);
    return Math.round(this.text.length * Math.min(1, this.playedMs / Math.max(1, whole)));
  }
}

const MS_PER_LETTER = 65; // of ordinary speech: only to light up words while the length of the sound is not known

export class Transcript {
  constructor(onchange, onremove) {
    this.onchange = onchange;
    this.onremove = onremove;
    this.lines = []; // in order
  }

  find(id) {
    return this.lines.find((line) => line.id === id);
  }

  /** A message of the conversation, new or told again after a reconnect. */
  add(item, previousId) {
    if (item.type !== "message" || item.role === "system") return undefined;
    const text = (item.content ?? []).map((part) => part.transcript ?? part.text ?? "").join(" ").trim();
    let line = this.find(item.id);
    if (!line) {
      line = new Line(item.id, item.role);
      const after = this.lines.findIndex((each) => each.id === previousId);
      this.lines.splice(after < 0 ? this.lines.length : after + 1, 0, line);
    }
    if (text && line.heard === null) line.text = text;
    line.done = item.status !== "in_progress" && Boolean(text);
    this.onchange(line);
    return line;
  }

  /** Words were added to, or are now all of, a message. */
  write(id, { delta, text, done }) {
    const line = this.find(id);
    if (!line || line.heard !== null) return;
    if (delta !== undefined) line.text += line.text ? delta : delta.trimStart();
    if (text !== undefined) line.text = text;
    line.done ||= Boolean(done);
    this.onchange(line);
  }

  /** Its sound: `arrivedMs` more, `playedMs` in all, `ended`. */
  sound(id, { arrivedMs = 0, playedMs, ended = false }) {
    const line = this.find(id);
    if (!line) return;
    line.spoken = true;
    line.soundMs += arrivedMs;
    line.soundDone ||= ended;
    if (playedMs !== undefined) line.playedMs = Math.max(line.playedMs, playedMs);
    this.onchange(line);
  }

  /** The listener heard only `ms` of it; `heard` is the text that the model keeps, once it is known. */
  cut(id, ms, heard) {
    const line = this.find(id);
    if (!line) return;
    line.heardMs = ms ?? line.heardMs;
    line.heard = heard ?? line.text.slice(0, wholeWords(line.text, line.reached));
    line.done = true;
    this.onchange(line);
  }

  latency(id, parts) {
    const line = this.find(id);
    if (!line) return;
    line.parts = parts;
    this.onchange(line);
  }

  remove(id) {
    this.lines = this.lines.filter((line) => line.id !== id);
    this.onremove(id);
  }

  clear() {
    for (const line of this.lines.splice(0)) this.onremove(line.id);
  }
}

/** The most of `letters` that ends with a whole word. */
export function wholeWords(text, letters) {
  if (letters >= text.length) return text.length;
  return Math.max(0, text.lastIndexOf(" ", letters));
}

// The latency of a reply, by part. Knows no clock: times are given, in milliseconds of one clock.

export const PARTS = [
  ["turn", "turn taken", "from the end of your speech to the decision that it is the assistant's turn"],
  ["text", "first text", "from there to the first text"],
  ["sound", "first sound", "from there to the first sound that arrives"],
  ["audible", "audible", "from there to what leaves the loudspeaker"],
];

/** Marks of one reply: `asked` (speech ended, or text sent), `turn`, `text`, `sound`, `audible`. First marks count. */
export class Stopwatch {
  constructor(asked) {
    this.marks = { asked };
  }

  mark(name, at) {
    if (!(name in this.marks)) this.marks[name] = at;
  }

  /** `[{name, title, ms}]` for each part that happened, in order of time, and their sum. Never negative. */
  parts() {
    let before = this.marks.asked;
    const parts = [];
    for (const [name, title] of PARTS) {
      if (!(name in this.marks)) continue;
      const at = Math.max(before, this.marks[name]); // sound may come before the text
      parts.push({ name, title, ms: at - before });
      before = at;
    }
    return { parts, total: before - this.marks.asked };
  }
}

/** When the user stopped being loud, by the level of 20 ms blocks: an ear that follows the noise of the room. */
export class Loudness {
  constructor() {
    this.floor = 0.002; // level of the room
    this.lastLoud = null; // when it was last loud
  }

  hear(level, at) {
    this.floor += (level - this.floor) * (level < this.floor ? 0.1 : 0.002);
    if (level > Math.max(0.006, 4 * this.floor)) this.lastLoud = at;
  }
}

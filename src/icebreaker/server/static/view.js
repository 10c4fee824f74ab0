// The page: shows what it is told. Knows nothing of sound or of the server.

import { wholeWords } from "./transcript.js";
import { WORDS } from "./turn.js";

const HINTS = {
  off: "Press Talk and ask something, or choose a question below.",
  ready: "Choose a question, type one, or press Talk.",
  listening: "Speak. There is no need to press anything.",
  hearing: "Pause when you are done.",
  thinking: "",
  connecting: "",
  speaking: "Just speak to interrupt, or press Escape.",
};
const LOUDEST_DB = -9, SOFTEST_DB = -54; // the ends of a level meter
const METER_MS = 250; // between two values for assistive technology
const PLAY = '<svg viewBox="0 0 24 24" aria-hidden="true" fill="currentColor"><path d="M8 5.5v13l10.5-6.5z"/></svg>';

const byId = (id) => document.getElementById(id);

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** A level (root mean square) as 0 to 1 on the meters' scale of decibels. */
export function onScale(level) {
  const db = 20 * Math.log10(Math.max(level, 1e-6));
  return Math.min(1, Math.max(0, (db - SOFTEST_DB) / (LOUDEST_DB - SOFTEST_DB)));
}

export class View {
  constructor() {
    this.levels = { you: 0, voice: 0 };
    this.told = 0; // when the meters last had values
    this.drawn = {}; // levels, by element
    this.elements = new Map(); // of lines, by id
    this.state = "off";
  }

  /** Whose turn it is; `muted` counts while nobody speaks. Called often: what has not changed is not touched. */
  turn(state, { muted = false, talking = false, canInterrupt = false } = {}) {
    const shown = `${state} ${muted} ${talking} ${canInterrupt}`;
    if (shown === this.shown) return;
    this.shown = shown;
    const isDeaf = state === "listening" && muted;
    const words = isDeaf ? "Muted" : WORDS[state];
    byId("turn").textContent = words;
    byId("hint").textContent = isDeaf ? "Nobody hears you. Press Mute again to go on." : HINTS[state];
    if (state !== this.state && (state === "off" || this.state === "connecting")) byId("state").textContent = words;
    document.body.dataset.turn = this.state = state;
    document.body.toggleAttribute("data-talking", talking);
    byId("talk-text").textContent = talking ? "End" : "Talk";
    byId("mute").disabled = !talking;
    byId("mute").setAttribute("aria-pressed", String(muted));
    byId("interrupt").disabled = !canInterrupt;
  }

  link(state, words) {
    byId("link").dataset.link = state;
    byId("link-text").textContent = words;
  }

  model(name) {
    byId("model-line").textContent = name;
  }

  /** Level (root mean square, 0 to 1) of `you` or the `voice`; drawn once a frame. */
  level(who, level, now) {
    this.levels[who] = Math.max(onScale(level), this.levels[who] * 0.82); // falls slower than it rises
    if (this.levels[who] < 0.01) this.levels[who] = 0;
    this.drawing ||= requestAnimationFrame(() => this.draw());
    if (now - this.told < METER_MS) return;
    this.told = now;
    for (const each of ["you", "voice"]) byId(`${each}-meter`).setAttribute("aria-valuenow", Math.round(100 * this.levels[each]));
  }

  draw() {
    this.drawing = 0;
    const levels = { "you-meter": this.levels.you, "voice-meter": this.levels.voice, orb: Math.max(...Object.values(this.levels)) };
    for (const [id, level] of Object.entries(levels)) {
      if (this.drawn[id] === level) continue;
      this.drawn[id] = level;
      byId(id).style.setProperty("--level", level.toFixed(3));
    }
  }

  /** A line of the transcript, new or changed; `index` is its place. */
  line(line, index) {
    const list = byId("transcript"), scroll = byId("scroll");
    const isAtEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 60;
    let shown = this.elements.get(line.id);
    if (!shown) {
      shown = element("li", `line ${line.role}`);
      shown.dataset.item = line.id;
      this.elements.set(line.id, shown);
      list.insertBefore(shown, list.children[index] ?? null);
    }
    const look = JSON.stringify([line.text, line.done, line.heard, line.heardMs, line.parts, wholeWords(line.text, line.reached)]);
    if (shown.look === look) return; // it plays on, but no further word is reached
    shown.look = look;
    shown.replaceChildren(...this.parts(line));
    byId("empty").hidden = true;
    if (isAtEnd) scroll.scrollTop = scroll.scrollHeight;
  }

  parts(line) {
    const who = element("span", "who", line.role === "user" ? "You" : "Icebreaker");
    const words = element("p", "words");
    if (!line.text) words.append(element("span", "waiting", line.done ? "…" : "···"));
    else words.append(...this.words(line));
    const parts = [who, words];
    if (line.heard !== null) {
      const when = line.heardMs === null ? "" : ` after ${(line.heardMs / 1000).toFixed(1)} s`;
      parts.push(element("p", "cut", `Interrupted${when}`));
    }
    if (line.parts) parts.push(this.latency(line.parts));
    return parts;
  }

  words(line) {
    const at = line.heard === null ? wholeWords(line.text, line.reached) : line.reached;
    const [before, after] = [line.text.slice(0, at), line.text.slice(at)];
    if (!after.trim()) return [line.text];
    if (line.heard === null) return [before, element("span", "ahead", after)];
    const unheard = element("del", "unheard", after);
    unheard.title = "Not heard, and forgotten by the model";
    return [before, unheard];
  }

  latency({ parts, total }) {
    const bar = element("div", "bar");
    bar.setAttribute("aria-hidden", "true");
    const legend = element("p", "parts", element("b", "", `${Math.round(total)} ms`));
    for (const { name, title, ms } of parts) {
      const colour = `p${["turn", "text", "sound", "audible"].indexOf(name) + 1}`;
      const piece = element("i", colour);
      piece.style.flex = `${Math.max(1, ms)} 0 0`;
      bar.append(piece);
      legend.append(element("span", colour, `${title} ${Math.round(ms)}`));
    }
    return element("div", "latency", bar, legend);
  }

  removeLine(id) {
    this.elements.get(id)?.remove();
    this.elements.delete(id);
    byId("empty").hidden = this.elements.size > 0;
  }

  /** Read out by screen readers when they have time; not what the assistant says aloud itself. */
  say(words) {
    byId("said").append(element("p", "", words));
    while (byId("said").children.length > 20) byId("said").firstChild.remove();
  }

  /** A problem in words (see `problems.js`); null takes it away. */
  notice(problem) {
    const notice = byId("notice");
    notice.hidden = !problem;
    if (!problem) return;
    const words = problem.text.map((part) => (part.code ? element("code", "", part.code) : part));
    byId("notice-text").replaceChildren(element("strong", "", problem.title), element("span", "", ...words));
    notice.toggleAttribute("data-mild", Boolean(problem.mild));
    byId("key-form").hidden = !problem.key;
    byId("notice-retry").hidden = !problem.retry;
    if (problem.key) byId("key").focus();
  }

  /** Buttons for recorded questions `[{text, file}]`. */
  questions(questions, onask) {
    for (const question of questions) {
      const chip = element("button", "chip");
      chip.type = "button";
      chip.innerHTML = PLAY;
      chip.append(question.text);
      chip.onclick = () => onask(question, chip);
      byId("questions").append(chip);
    }
  }
}

// The page's parts, joined: what the user does, what the server says, what is heard.

import { Loudness } from "./latency.js";
import { News } from "./news.js";
import { explain } from "./problems.js";
import { Realtime } from "./realtime.js";
import { Replies } from "./reply.js";
import { Settings, followTheme, openDialog } from "./settings.js";
import { Sound, base64 } from "./sound.js";
import { Transcript } from "./transcript.js";
import { Turn } from "./turn.js";
import { View } from "./view.js";

const LEAD_MS = 500; // of silence sent before a recorded question, as before any speech
const TAIL_MS = 3000; // of silence sent after a question, so that its end is heard
const IDLE_MS = 120000; // without a microphone and without a word: give the place to somebody else
const BACKLOG = 200000; // bytes unsent: the network is slower than speech; old sound helps nobody
const byId = (id) => document.getElementById(id);

const settings = new Settings(), view = new View(), turn = new Turn(), loudness = new Loudness();
const transcript = new Transcript((line) => view.line(line, transcript.lines.indexOf(line)), (id) => view.removeLine(id));
const sound = new Sound({ onblock: heard, onplay: (event) => played(event), onlost: () => trouble("lost-microphone") });
const realtime = new Realtime({ onlink: linked, onevent: received });
const replies = new Replies({ sound, transcript, turn, send: (event) => realtime.send(event), changed: show });
const news = new News({ transcript, view, replies, send: (event) => realtime.send(event), trouble });
let models = [], asking = 0, sendUntil = 0, lastUse = 0, shownProblem = null;

// What the user does.

async function talk() {
  if (turn.open) return stopTalking();
  connect();
  try {
    await sound.openMicrophone(settings.values.microphone);
    turn.open = true;
    clearNotice("-microphone");
  } catch (error) {
    complain(error);
    if (!transcript.lines.length && !asking) hangUp();
  }
  show();
  return undefined;
}

function stopTalking() {
  sound.closeMicrophone();
  sound.mute(false);
  turn.open = false;
  hangUp();
}

/** Leave; the server keeps the conversation for a while, and `connect` finds it again. */
function hangUp() {
  replies.interrupt({ cancel: true });
  turn.hearing = turn.thinking = false;
  realtime.close({ keep: true });
  show();
}

function mute() {
  sound.mute(!sound.isMuted);
  view.say(sound.isMuted ? "Microphone muted" : "Microphone on");
  show();
}

async function interrupt() {
  if (!replies.canInterrupt) return;
  await replies.interrupt({ cancel: true });
  view.say("Interrupted");
}

async function ask(question, chip) {
  asking += 1;
  chip.setAttribute("aria-busy", "true");
  try {
    await sound.start();
    connect();
    await opened();
    await new Promise((resolve) => setTimeout(resolve, LEAD_MS));
    await sound.ask(`static/questions/${question.file}`);
    sendUntil = performance.now() + TAIL_MS;
  } catch (error) {
    complain(error);
  } finally {
    asking -= 1;
    chip.removeAttribute("aria-busy");
  }
}

async function write(text) {
  if (Sound.available) await sound.start();
  connect();
  if (replies.canInterrupt) await replies.interrupt({ cancel: true });
  const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
  realtime.send({ type: "conversation.item.create", item });
  realtime.send({ type: "response.create" });
  replies.expect(performance.now());
  lastUse = performance.now();
}

function apply(values) {
  const old = { ...settings.values };
  settings.change(values);
  if (old.microphone !== values.microphone && turn.open) sound.openMicrophone(values.microphone).catch(complain);
  if (turn.link !== "open") return;
  if (old.model !== values.model) {
    realtime.close({ keep: true });
    connect();
  } else update();
}

// The connection.

function connect() {
  lastUse = performance.now();
  realtime.open({ model: settings.values.model, key: settings.key });
}

/** Resolves when the server is there; for as long as it takes, unless the user gives up. */
function opened() {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (turn.link === "open") resolve();
      else if (realtime.link === "off" || realtime.link === "failed") reject(new Error("not connected"));
      else setTimeout(look, 30);
    };
    look();
  });
}

function update() {
  realtime.send({ type: "session.update", session: settings.session(Sound.available) });
}

function linked(link, about) {
  const words = { off: "Not connected", connecting: "Connecting", open: "Connected", waiting: "Connecting again", failed: "Not connected" };
  const was = turn.link;
  turn.link = { connecting: "connecting", waiting: "connecting", open: "open" }[link] ?? "off";
  view.link(link, words[link]);
  if (link === "open") {
    if (!about.resumed) transcript.clear();
    replies.forget();
    update();
    if (about.lost) trouble("forgotten");
    else clearNotice();
  } else if (was === "open") {
    sound.clear(); // what is left of a reply is lost with its connection
    Object.assign(turn, { hearing: false, thinking: false, playing: false });
  }
  if (about.problem) trouble(about.problem.kind, about.problem);
  if (link === "failed" && turn.open) {
    sound.closeMicrophone();
    turn.open = false;
  }
  show();
}

function received(event) {
  const now = performance.now();
  turn.event(event);
  if (event.type === "input_audio_buffer.committed") replies.expect(speechEnd(now), now);
  news.event(event);
  replies.event(event, now);
  lastUse = now;
  show();
}

/** When the user's speech ended, to the best of our ears; `now` where they heard nothing. */
function speechEnd(now) {
  return loudness.lastLoud && now - loudness.lastLoud < 5000 ? loudness.lastLoud : now;
}

// Sound.

function heard({ pcm, level }) {
  const now = performance.now();
  view.level("you", sound.hears && !sound.isMuted || asking ? level : 0, now);
  loudness.hear(level, now);
  const wanted = (turn.open && !sound.isMuted) || asking > 0;
  if (wanted) sendUntil = now + TAIL_MS;
  if (turn.link !== "off" && now < sendUntil && realtime.backlog < BACKLOG) { // before it is open, words wait for it
    realtime.send({ type: "input_audio_buffer.append", audio: base64(pcm) });
  }
  const isIdle = !turn.open && !asking && !replies.canInterrupt && now - lastUse > IDLE_MS;
  if (isIdle && turn.link === "open") hangUp();
}

function played(event) {
  if (event.kind === "progress") view.level("voice", event.level, performance.now());
  replies.played(event, performance.now());
}

// What is shown.

function show() {
  view.turn(turn.state, { muted: sound.isMuted, talking: turn.open, canInterrupt: replies.canInterrupt });
}

function trouble(kind, about = {}) {
  if (kind === "lost-microphone") {
    turn.open = false;
    show();
  }
  shownProblem = kind;
  view.notice(explain({ ...about, kind }));
}

/** An error of the microphone, or one of any other kind. */
function complain(error) {
  console.warn(error.cause ?? error);
  trouble(error.kind ? `${error.kind}-microphone` : "other", { reason: error.message });
}

/** Take the notice away, if it is about something that `suffix` ends the name of. */
function clearNotice(suffix = "") {
  if (!shownProblem) return;
  if (suffix ? !shownProblem.endsWith(suffix) : shownProblem.endsWith("-microphone")) return;
  shownProblem = null;
  view.notice(null);
}

async function load() {
  followTheme(byId("theme"));
  byId("talk").onclick = talk;
  byId("mute").onclick = mute;
  byId("interrupt").onclick = interrupt;
  byId("open-settings").onclick = () => openDialog(settings, models, apply);
  byId("notice-close").onclick = () => view.notice((shownProblem = null));
  byId("notice-retry").onclick = () => {
    view.notice((shownProblem = null));
    talk();
  };
  byId("key-form").onsubmit = (event) => {
    event.preventDefault();
    settings.setKey(byId("key").value.trim());
    view.notice((shownProblem = null));
    connect();
    listModels();
  };
  byId("composer").onsubmit = (event) => {
    event.preventDefault();
    const text = byId("text").value.trim();
    byId("text").value = "";
    if (text) write(text);
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("settings").open) interrupt();
  });
  window.addEventListener("pagehide", () => realtime.close());
  document.addEventListener("visibilitychange", () => !document.hidden && turn.open && sound.start());
  if (!Sound.available) trouble(window.isSecureContext ? "old-microphone" : "insecure-microphone");
  byId("talk").disabled = !Sound.available;
  show();
  listModels();
  const questions = await fetch("static/questions/questions.json").then((answer) => answer.json());
  if (Sound.available) view.questions(questions, ask);
}

async function listModels() {
  const headers = settings.key ? { Authorization: `Bearer ${settings.key}` } : {};
  const answer = await fetch("v1/models", { headers }).catch(() => null);
  if (!answer?.ok) return;
  models = (await answer.json()).data.map((each) => each.id);
  if (turn.link === "off") view.model(settings.values.model || models[0] || "");
}

load();

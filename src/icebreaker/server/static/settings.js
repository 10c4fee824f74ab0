// What the user chooses, kept in this browser; and the dialog that changes it. The key stays in the tab alone.

const STORE = "icebreaker";
const DEFAULTS = { model: "", instructions: "", turns: "semantic_vad", eagerness: "auto", microphone: "" };
const byId = (id) => document.getElementById(id);

/** Read a store that may be forbidden or spoilt. */
function read(store, name) {
  try {
    return store().getItem(name);
  } catch {
    return null;
  }
}

function write(store, name, value) {
  try {
    store().setItem(name, value);
  } catch {
    // a browser that keeps nothing: the choice holds until the page is left
  }
}

const lasting = () => window.localStorage;
const passing = () => window.sessionStorage;

export class Settings {
  constructor() {
    let kept = {};
    try {
      kept = JSON.parse(read(lasting, STORE) ?? "{}");
    } catch {
      // not ours
    }
    this.values = { ...DEFAULTS };
    for (const name of Object.keys(DEFAULTS)) if (typeof kept[name] === "string") this.values[name] = kept[name];
    this.key = read(passing, `${STORE}-key`) ?? "";
  }

  setKey(key) {
    this.key = key;
    write(passing, `${STORE}-key`, key);
  }

  change(values) {
    Object.assign(this.values, values);
    write(lasting, STORE, JSON.stringify(this.values));
  }

  /** The `session` of a `session.update`; `audible` where the browser can play sound. */
  session(audible) {
    const { instructions, turns, eagerness } = this.values;
    const detection = { type: turns, create_response: true, interrupt_response: true };
    if (turns === "semantic_vad") detection.eagerness = eagerness;
    else detection.silence_duration_ms = 500;
    const format = { type: "audio/pcm", rate: 24000 };
    const input = { format, turn_detection: detection, transcription: { model: "icebreaker" } };
    return {
      type: "realtime",
      output_modalities: [audible ? "audio" : "text"],
      instructions: instructions.trim() || null,
      audio: { input, output: { format } },
      icebreaker: { playback_hold: true },
    };
  }
}

/** Show the dialog, filled; `onapply(values)` when the user applies. */
export async function openDialog(settings, models, onapply) {
  const dialog = byId("settings"), form = byId("settings-form");
  const names = models.includes(settings.values.model) || !settings.values.model ? models : [settings.values.model, ...models];
  byId("model").replaceChildren(...names.map((name) => new Option(name, name)));
  const microphones = await listMicrophones();
  byId("microphone").replaceChildren(new Option("The system's choice", ""), ...microphones.map((each) => new Option(each.label, each.deviceId)));
  for (const name of Object.keys(DEFAULTS)) byId(name).value = settings.values[name] || byId(name).options?.[0]?.value || "";
  showEagerness();
  byId("turns").onchange = showEagerness;
  byId("settings-cancel").onclick = () => dialog.close();
  form.onsubmit = () => onapply(Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, byId(name).value])));
  dialog.showModal();
}

function showEagerness() {
  byId("eagerness-field").hidden = byId("turns").value !== "semantic_vad";
}

/** Microphones have names only after the user has allowed one. */
async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  return devices.filter((each) => each.kind === "audioinput" && each.label && each.deviceId !== "default");
}

/** Light and dark: the system's choice until the user makes one. */
export function followTheme(button) {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const isDark = (read(lasting, `${STORE}-theme`) ?? (system.matches ? "dark" : "light")) === "dark";
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    button.setAttribute("aria-label", isDark ? "Switch to light colours" : "Switch to dark colours");
  };
  system.addEventListener("change", show);
  button.onclick = () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    write(lasting, `${STORE}-theme`, next);
    document.documentElement.dataset.theme = next;
    show();
  };
  show();
}

// One conversation over a WebSocket: opens it, opens it again when it is lost, says why when it cannot.

const PATIENCE_MS = 10000; // until `session.created`
const FIRST_WAIT_MS = 400, LONGEST_WAIT_MS = 8000; // between tries
const SOUND = "input_audio_buffer.append", KEPT_SOUNDS = 500; // newest blocks of 20 ms: 10 s
const GONE = "session_not_found", FULL = "server_full"; // codes of errors: nothing to resume, no place

/**
 * Tells `onlink(state, about)` how the connection is: `connecting`, `open` {resumed}, `waiting` {problem, ms}, `failed`
 * {problem} or `off`; and `onevent(event)` what the server says.
 */
export class Realtime {
  constructor({ onlink, onevent }) {
    Object.assign(this, { onlink, onevent, socket: null, sessionId: null, tries: 0, waiting: [], timer: 0 });
    this.link = "off";
  }

  /** Open, with `key` and for `model` where they are known. Does nothing while a connection is there or under way. */
  open({ model = "", key = "" }) {
    if (this.link !== "off" && this.link !== "failed") return;
    Object.assign(this, { model, key, tries: 0 });
    this.connect();
  }

  /** Close for good, or, with `keep`, such that the next `open` goes on with the same conversation. */
  close({ keep = false } = {}) {
    clearTimeout(this.timer);
    if (!keep) this.sessionId = null;
    this.isForgotten = false;
    this.waiting = [];
    this.drop();
    this.tell("off", {});
  }

  /** Send an event; while there is no connection yet, or none any more, it waits, of sound the newest 10 s. */
  send(event) {
    if (this.link === "open" && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(event));
    else if (this.link !== "off") this.wait(event);
  }

  wait(event) {
    this.waiting.push(event);
    const sounds = this.waiting.filter(({ type }) => type === SOUND).length;
    if (sounds > KEPT_SOUNDS) this.waiting.splice(this.waiting.findIndex(({ type }) => type === SOUND), 1);
  }

  /** Bytes that the network has not taken yet. */
  get backlog() {
    return this.socket?.bufferedAmount ?? 0;
  }

  connect() {
    this.tell("connecting", {});
    const url = new URL("v1/realtime", document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (this.model) url.searchParams.set("model", this.model);
    if (this.sessionId) url.searchParams.set("session_id", this.sessionId);
    const protocols = this.key ? ["realtime", `openai-insecure-api-key.${this.key}`] : ["realtime"];
    let socket;
    try {
      socket = new WebSocket(url, protocols);
    } catch { // a key with letters that no header may have
      this.fail({ kind: "key" });
      return;
    }
    this.socket = socket;
    socket.onmessage = ({ data }) => socket === this.socket && this.receive(JSON.parse(data));
    socket.onclose = (closing) => socket === this.socket && this.closed(closing);
    this.timer = setTimeout(() => socket.close(), PATIENCE_MS);
  }

  receive(event) {
    if (event.type === "session.created") {
      clearTimeout(this.timer);
      const resumed = this.sessionId === event.session.id;
      const lost = this.isForgotten || (Boolean(this.sessionId) && !resumed);
      Object.assign(this, { sessionId: event.session.id, tries: 0, isForgotten: false });
      this.tell("open", { resumed, lost });
      for (const each of this.waiting.splice(0)) this.send(each);
    }
    if (event.type === "error") this.lastError = event.error;
    this.onevent(event);
  }

  async closed({ reason }) {
    clearTimeout(this.timer);
    const wasOpen = this.link === "open";
    this.drop();
    const error = this.lastError;
    this.lastError = undefined;
    if (error?.code === GONE) {
      Object.assign(this, { sessionId: null, isForgotten: true }); // begin anew; `open` tells that it is lost
      return this.connect();
    }
    const problem = wasOpen ? { kind: "lost", reason } : await this.diagnose(reason, error);
    if (this.link === "off") return undefined; // closed by the user meanwhile
    if (problem.kind === "key" || problem.kind === "refused") return this.fail(problem);
    const ms = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.tries++) * (0.75 + 0.5 * Math.random());
    this.tell("waiting", { problem, ms, tries: this.tries });
    this.timer = setTimeout(() => this.connect(), ms);
    return undefined;
  }

  /** Why no conversation began: a browser hides how a WebSocket was refused, so the server is asked by other ways. */
  async diagnose(reason, error) {
    if (error) return { kind: error.code === FULL ? "full" : "refused", reason: error.message };
    try {
      const headers = this.key ? { Authorization: `Bearer ${this.key}` } : {};
      const models = await fetch("v1/models", { headers, cache: "no-store" });
      if (models.status === 401 || models.status === 403) return { kind: "key", tried: Boolean(this.key) };
      return models.ok ? { kind: "refused", reason: reason || "It lets this page in, but no conversation begin." } : { kind: "gone" };
    } catch {
      return { kind: "gone" };
    }
  }

  fail(problem) {
    this.drop();
    this.tell("failed", { problem });
  }

  drop() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  tell(link, about) {
    this.link = link;
    this.onlink(link, about);
  }
}

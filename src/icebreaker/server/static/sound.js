// The microphone, recorded questions and the loudspeaker, in one audio graph. Knows nothing of the server.
//
//   microphone -> gate -+-> capture (24 kHz PCM16, blocks of 20 ms)
//   question -----------+-> loudspeaker
//   replies -> playback (jitter buffer) -> loudspeaker

const QUESTION_VOLUME = 0.7;
const HEAR = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };

/** What went wrong with the microphone, as a kind of `problems.js`. */
const FAULTS = {
  NotAllowedError: "refused", SecurityError: "refused", NotFoundError: "none", OverconstrainedError: "none",
  NotReadableError: "busy", AbortError: "busy",
};

export class SoundFault extends Error {
  constructor(kind, cause) {
    super(kind, { cause });
    this.kind = kind;
  }
}

/** Calls `onblock({pcm, level})` for what is heard, `onplay(event)` for what is played, `onlost()` without microphone. */
export class Sound {
  constructor({ onblock, onplay, onlost }) {
    Object.assign(this, { onblock, onplay, onlost, context: null, microphone: null, question: null, tokens: 0 });
    this.clearing = new Map(); // resolvers of `clear`, by token
    this.isMuted = false;
  }

  /** Browsers give microphones and worklets to secure origins only. */
  static get available() {
    return window.isSecureContext && "audioWorklet" in (window.AudioContext?.prototype ?? {});
  }

  /** Get ready; call it from a click or key press, or the browser keeps it silent. */
  async start() {
    if (!Sound.available) throw new SoundFault(window.isSecureContext ? "old" : "insecure");
    this.starting ??= this.build();
    await this.starting;
    if (this.context.state !== "running") await this.context.resume();
  }

  async build() {
    const context = (this.context = new AudioContext({ latencyHint: "interactive" }));
    const modules = ["./sound/capture-worklet.js", "./sound/playback-worklet.js"];
    await Promise.all(modules.map((each) => context.audioWorklet.addModule(new URL(each, import.meta.url))));
    const mono = { numberOfInputs: 1, numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
    this.capture = new AudioWorkletNode(context, "capture", mono);
    this.capture.port.onmessage = ({ data }) => this.onblock(data);
    this.playback = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [2] });
    this.playback.port.onmessage = ({ data }) => this.played(data);
    this.playback.connect(context.destination);
    this.gate = context.createGain();
    this.gate.connect(this.capture);
    this.loud = context.createGain();
    this.loud.gain.value = QUESTION_VOLUME;
    this.loud.connect(context.destination);
  }

  /** Begin to hear the user. Throws a `SoundFault`. */
  async openMicrophone(deviceId = "") {
    if (!Sound.available) throw new SoundFault(window.isSecureContext ? "old" : "insecure");
    const audio = deviceId ? { ...HEAR, deviceId: { ideal: deviceId } } : HEAR;
    let stream;
    try {
      [stream] = await Promise.all([navigator.mediaDevices.getUserMedia({ audio }), this.start()]);
    } catch (error) {
      if (!(error.name in FAULTS)) throw error; // no fault of a microphone
      throw new SoundFault(FAULTS[error.name], error);
    }
    this.closeMicrophone();
    const node = this.context.createMediaStreamSource(stream);
    node.connect(this.gate);
    this.microphone = { stream, node };
    stream.getAudioTracks()[0].onended = () => {
      this.closeMicrophone();
      this.onlost();
    };
    this.setGate();
  }

  closeMicrophone() {
    this.microphone?.node.disconnect();
    for (const track of this.microphone?.stream.getTracks() ?? []) track.stop();
    this.microphone = null;
  }

  get hears() {
    return Boolean(this.microphone);
  }

  mute(isMuted) {
    this.isMuted = isMuted;
    this.setGate();
  }

  setGate() {
    this.gate?.gain.setTargetAtTime(this.isMuted || this.question ? 0 : 1, this.context.currentTime, 0.005);
  }

  /** Ask a recorded question aloud, in place of the microphone; ends when it was said. */
  async ask(url) {
    await this.start();
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`expected the recording ${url}, got status ${answer.status}`);
    const buffer = await this.context.decodeAudioData(await answer.arrayBuffer());
    this.question?.stop();
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.capture);
    source.connect(this.loud);
    this.question = source;
    this.setGate();
    const ended = new Promise((resolve) => (source.onended = resolve));
    source.start();
    await ended;
    if (this.question === source) this.question = null;
    this.setGate();
  }

  /** More sound of `item`: base64 of PCM16 at 24 kHz. Returns its length in milliseconds. */
  push(item, base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    this.playback?.port.postMessage({ do: "push", item, pcm: bytes.buffer }, [bytes.buffer]);
    return bytes.length / 48; // two bytes a sample, 24 samples a millisecond
  }

  end(item) {
    this.playback?.port.postMessage({ do: "end", item });
  }

  /** Pause what plays at once, and keep it. */
  hold() {
    this.playback?.port.postMessage({ do: "hold" });
  }

  /** Play on at the very next sample. */
  goOn() {
    this.playback?.port.postMessage({ do: "goOn" });
  }

  /** Fall silent; what was heard of the replies that were not over: `[{item, playedMs}]`. */
  clear() {
    if (!this.playback) return Promise.resolve([]);
    const token = ++this.tokens;
    this.playback.port.postMessage({ do: "clear", token });
    return new Promise((resolve) => this.clearing.set(token, resolve));
  }

  /** Between the graph and the ear, in milliseconds. */
  get latencyMs() {
    return 1000 * (this.context?.outputLatency || this.context?.baseLatency || 0);
  }

  played(event) {
    const heard = (ms) => Math.max(0, ms - this.latencyMs);
    if (event.kind === "cleared") {
      const all = event.heard.map(({ item, playedMs }) => ({ item, playedMs: heard(playedMs) }));
      this.clearing.get(event.token)?.(all);
      this.clearing.delete(event.token);
      return;
    }
    this.onplay(event.kind === "progress" && event.item ? { ...event, playedMs: heard(event.playedMs) } : event);
  }
}

/** Base64 of an ArrayBuffer. */
export function base64(buffer) {
  return btoa(String.fromCharCode(...new Uint8Array(buffer)));
}

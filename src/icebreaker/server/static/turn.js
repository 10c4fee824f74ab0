// Whose turn it is, from what happens. Knows nothing of the page or of sound.

export const WORDS = {
  off: "Ready when you are",
  connecting: "Connecting",
  ready: "Connected",
  listening: "Listening",
  hearing: "Hearing you",
  thinking: "Thinking",
  speaking: "Speaking",
};

/** Facts that arrive one by one; `state` is what they add up to. */
export class Turn {
  constructor() {
    this.link = "off"; // off, connecting, open
    this.open = false; // the microphone is heard
    this.hearing = false;
    this.thinking = false;
    this.playing = false;
  }

  /** A server event, by its name and fields. */
  event(message) {
    switch (message.type) {
      case "input_audio_buffer.speech_started":
        this.hearing = true;
        break;
      case "input_audio_buffer.speech_stopped":
      case "input_audio_buffer.cleared":
        this.hearing = false;
        break;
      case "input_audio_buffer.committed":
        this.hearing = false;
        this.thinking = true;
        break;
      case "response.created":
        this.thinking = true;
        break;
      case "response.done":
        this.thinking = false;
        break;
    }
  }

  get state() {
    if (this.link !== "open") return this.link;
    if (this.hearing) return "hearing";
    if (this.playing) return "speaking";
    if (this.thinking) return "thinking";
    return this.open ? "listening" : "ready";
  }
}

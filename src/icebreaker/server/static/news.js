// What the server says about the conversation, brought to the transcript. Replies are in `reply.js`, turns in `turn.js`.

// Answers to what was asked in vain, such as to cancel a reply that ended in the same moment.
const HARMLESS = ["response_cancel_not_active", "item_retrieve_invalid_item_id", "item_truncate_invalid_item_id", "session_not_found", "server_full"];

const wordsOf = (item) => (item.content ?? []).map((part) => part.transcript ?? part.text ?? "").join(" ").trim();

export class News {
  constructor({ transcript, view, replies, send, trouble }) {
    Object.assign(this, { transcript, view, replies, send, trouble });
  }

  event(event) {
    const { transcript, view } = this;
    switch (event.type) {
      case "session.created":
      case "session.updated":
        view.model(event.session.model ?? "");
        break;
      case "input_audio_buffer.speech_started":
        this.replies.interrupt({ cancel: false }); // the server stops the reply itself
        break;
      case "conversation.item.added":
        this.added(event);
        break;
      case "conversation.item.input_audio_transcription.delta":
        transcript.write(event.item_id, { delta: event.delta });
        break;
      case "conversation.item.input_audio_transcription.completed":
        transcript.write(event.item_id, { text: event.transcript.trim() || "(no words)", done: true });
        if (event.transcript.trim()) view.say(`You: ${event.transcript}`);
        break;
      case "conversation.item.input_audio_transcription.failed":
        transcript.write(event.item_id, { text: "(not understood)", done: true });
        break;
      case "conversation.item.deleted":
        transcript.remove(event.item_id);
        break;
      case "conversation.item.truncated":
        this.send({ type: "conversation.item.retrieve", item_id: event.item_id });
        break;
      case "conversation.item.retrieved":
        this.kept(event.item);
        break;
      case "response.output_text.done":
        view.say(`Icebreaker: ${event.text}`); // what is spoken needs no second voice
        break;
      case "response.done":
        if (event.response.status === "failed") this.trouble("other", { reason: event.response.status_details?.error?.message });
        break;
      case "error":
        if (!HARMLESS.includes(event.error.code)) this.trouble("other", { reason: event.error.message });
        break;
    }
  }

  /** New messages, and those that are told again after a reconnect. */
  added({ item, previous_item_id: previous }) {
    const isNew = !this.transcript.find(item.id);
    const line = this.transcript.add(item, previous);
    if (line && isNew && item.role === "assistant" && item.status === "incomplete") this.transcript.cut(item.id, null, line.text);
  }

  /** What the model remembers of an answer that was cut. */
  kept(item) {
    const line = this.transcript.find(item.id);
    if (!line || line.heard === null) return;
    const text = wordsOf(item);
    this.transcript.cut(item.id, line.heardMs, line.text.trimStart().startsWith(text) ? text : line.heard);
    this.view.say(text ? `Interrupted. Heard: ${text}` : "Interrupted before anything was heard");
  }
}

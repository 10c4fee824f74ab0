// What is wrong and what to do, in words. `code` is shown as code.

const code = (text) => ({ code: text });
const WITHOUT = "Meanwhile you can type, or choose a question.";

/** `{title, text: [words or code ...], mild, retry, key}` of a problem `{kind, ...}`. */
export function explain(problem) {
  const port = location.port ? `:${location.port}` : "";
  switch (problem.kind) {
    case "refused-microphone":
      return {
        title: "The microphone is blocked",
        text: ["The browser does not let this page hear you. Allow the microphone beside the address, then try again. ", WITHOUT],
        retry: true,
      };
    case "none-microphone":
      return { title: "No microphone was found", text: ["Plug one in, or choose another in Settings, then try again. ", WITHOUT], retry: true };
    case "busy-microphone":
      return {
        title: "The microphone does not answer",
        text: ["Another program may be using it. Close that one, then try again. ", WITHOUT],
        retry: true,
      };
    case "lost-microphone":
      return { title: "The microphone was unplugged", text: ["Plug it in again, or choose another in Settings, then try again."], retry: true };
    case "insecure-microphone":
      return {
        title: "This address is not secure, so the browser allows no sound here",
        text: [
          "Open ", code(`http://localhost${port}`), " on the machine that runs the server; or start it with ",
          code("icebreaker serve --self-signed"), " and open ", code(`https://${location.hostname}${port}`),
          ". Typing works here too, with answers in writing.",
        ],
      };
    case "old-microphone":
      return { title: "This browser cannot play sound as it arrives", text: ["Use a current Firefox, Chrome, Edge or Safari. Typing works here too."] };
    case "key":
      return {
        title: problem.tried ? "The server does not accept this key" : "The server asks for a key",
        text: ["Its owner has it: it is in the file given with ", code("--api-key-file"), ". It stays in this tab."],
        key: true,
      };
    case "full":
      return {
        title: "All places are taken",
        text: ["The server is talking with as many people as it can. This page tries again by itself."],
        mild: true,
      };
    case "gone":
      return {
        title: "The server does not answer",
        text: ["Is ", code("icebreaker serve"), ` running at ${location.host}? This page tries again by itself.`],
      };
    case "lost":
      return { title: "The connection was lost", text: ["Connecting again; the conversation goes on where it was."], mild: true };
    case "forgotten":
      return { title: "Connected again, to a new conversation", text: ["The server no longer had the old one."], mild: true };
    case "refused":
      return { title: "The server refused", text: [problem.reason || "It gave no reason."], retry: true };
    default:
      return { title: "Something went wrong", text: [problem.reason || problem.kind] };
  }
}

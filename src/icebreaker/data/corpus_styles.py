"""System prompts that say how to answer, and such that no answer depends on. Knows nothing of conversations.

Whoever serves the model writes one: "You are a helpful voice assistant. Be brief." A small LLM that has read a style
only now and then forgets the fact while it minds the style, and one that has read a single prompt stumbles over others.
Answers are brief as they are, so prompts that ask for brevity change none: a few million parameters seldom get a bare
fact right (docs/decisions.md).
"""

import random

__all__ = ["BRIEF", "CHATTY", "CHATTY_REPLY", "MORE_BRIEF", "MORE_CHATTY", "PLAIN", "plain_prompt", "style_prompt"]

BRIEF = ("Answer in one word.", "Be brief.", "Give short answers.")
CHATTY = ("Be friendly and chatty.", "Be talkative.", "Be very polite.")
CHATTY_REPLY = "Of course! {}"
MORE_BRIEF = (
    *BRIEF, "Answer briefly.", "Keep it short.", "Keep your answers short.", "Keep your answers brief.",
    "Short answers only.", "Be concise.", "Be short.", "Use as few words as possible.", "Answer in a few words.",
    "Answer with one word.", "One word answers only.", "Your answers are short.",
)  # fmt: skip
MORE_CHATTY = (*CHATTY, "Be chatty.", "Be very friendly.", "Be warm and talkative.", "Be polite.", "Always be polite.")
PLAIN = (
    "You are a helpful assistant.", "You are a voice assistant.", "You are a helpful voice assistant.",
    "You are an assistant.", "You are a helpful voice AI assistant.", "You are a friendly assistant.",
    "You are a helpful, witty, and friendly AI.", "You are a kind and patient helper.", "You are a phone assistant.",
    "Act like a human, but remember that you are not one.", "Your voice and personality should be warm and engaging.",
    "Talk quickly.", "Speak clearly.", "Speak slowly.", "Speak English.", "Answer in English.", "Always answer.",
    "The user talks to you on the phone.", "The user speaks to you through a microphone.", "You hear the user.",
    "Answer the questions of the user.", "Help the user.", "Help everybody who asks.", "Be kind.", "Be helpful.",
    "Be patient.", "Be honest.", "Never tell a lie.", "You work in a hotel.", "Help the guests.",
    "You are a guide in a museum.", "You are an assistant in a shop.", "You work for a bank.", "You sell shoes.",
    "You help people to learn English.", "You are a tutor for children.", "You are a teacher.", "You are a doctor.",
    "You are a pirate.", "You are a robot.", "You are a wizard.", "You are a good listener.",
    "Do not use lists.", "Do not use emojis.", "Do not use bullet points or other formatting.",
    "Your answers are spoken aloud.", "Everything you write is read aloud.",
    "If you do not know something, say so.", "Do not make things up.", "You were made by the Icebreaker project.",
    "You are calm and friendly.", "Use simple words.", "Do not repeat yourself.", "Stay on the topic.",
    "It is a sunny day.", "We are in a quiet room.", "This is a test.", "This is a demo.",
)  # fmt: skip


def style_prompt(rng: random.Random, *, brief: bool) -> str:
    """A style, mostly behind a plain sentence."""
    style = rng.choice(MORE_BRIEF if brief else MORE_CHATTY)
    sentences = [rng.choice(PLAIN), style] if rng.random() < 0.6 else [style]
    if rng.random() < 0.2:
        sentences.append(rng.choice(PLAIN))
    return " ".join(sentences)


def plain_prompt(rng: random.Random) -> str:
    """One to five sentences that change no answer."""
    return " ".join(rng.sample(PLAIN, rng.choice((1, 1, 2, 2, 3, 5))))

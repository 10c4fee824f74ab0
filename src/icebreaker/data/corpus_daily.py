"""What people say to an assistant before anything else, in the words they use. Knows nothing of conversations.

``SAYINGS`` are the shortest of them, which no group of wordings has.

Phrasings are held out by hash, and the hash does not know that "Goodbye." is said by everybody: a model that never
read it greets whoever leaves. So these are train's whatever their hash says, and no conversation of valid or test
begins with one.
"""

from collections.abc import Iterable

__all__ = ["DAILY", "SAYINGS", "daily"]

_SAID = {  # by answer
    "All right.": (
        "Yes.", "No.", "Yes, please.", "No, thank you.", "Never mind.", "Great.", "Cool.", "I see.", "Hmm.", "Right.",
        "Maybe.", "Nothing.", "Forget it.", "Good.", "That is all.", "Not now.", "Of course.", "Test.",
        "This is a test.", "Testing, one two three.", "One, two, three.",
    ),
    "I will be quiet now.": ("Stop.", "Stop, please.", "Stop that.", "Okay, stop.", "No, stop.", "Quiet."),
    "Take your time.": ("Wait.", "Wait a moment.", "Just a moment.", "Hold on.", "One second."),
    "What would you like to know?": (
        "Help.", "Go on.", "Continue.", "Please continue.", "Tell me more.", "Let's talk.", "Go ahead.", "Help me.",
    ),
    "Yes, I can hear you.": (
        "Are you there?", "Hello, are you there?", "Do you understand me?", "Are you listening?",
    ),
    "Hello, how can I help you?": (
        "Good afternoon.", "Hello?", "Hey there.", "Who is there?", "Hello, Icebreaker.",
    ),
    "Goodbye, have a nice day.": (
        "See you later.", "See you tomorrow.", "See you.", "I am leaving now.", "Bye, see you.",
    ),
    "Thank you, that is kind of you.": (
        "I love you.", "You are funny.", "Nice.", "Awesome.", "I like you.", "You are great.", "Well done.",
    ),
    "I am sorry, I will try to do better.": ("Wrong.", "No, that is wrong.", "No, that is not right."),
    "I do not know that.": ("Why?", "What?", "Really?", "What is love?", "What is this?", "How does this work?"),
    "Yes, ask me anything short.": ("What can I ask you?", "What do you know?", "Can I ask you something?"),
}  # fmt: skip
SAYINGS = {saying: answer for answer, sayings in _SAID.items() for saying in sayings}

DAILY = frozenset({
    "Hello.", "Hi.", "Hi there.", "Hello there.", "Hey.", "Good morning.", "Good evening.", "Hi Icebreaker.",
    "How are you?", "How are you today?", "How are you doing?", "How are you doing today?", "Hello, how are you?",
    "Hi, how are you?", "Nice to meet you.", "Good to meet you.", "Pleased to meet you.",
    "Thank you.", "Thanks.", "Thank you very much.", "Many thanks.", "Good job.", "That was a great help.",
    "Goodbye.", "Bye.", "Bye bye.", "Okay, goodbye.", "Goodbye Icebreaker.", "Good night.", "I have to go now.",
    "Okay.", "Sure.", "Sorry.", "Please stop.", "Please be quiet.", "Shut up.", "One moment please.",
    "Can you help me?", "What can you do?", "Can you hear me?", "Say something.", "Tell me a joke.",
    "Tell me an interesting fact.", "One more joke, please.", "How old are you?", "Who created you?", "Who made you?",
    "What languages do you speak?", "Which language do you speak?", "How is the weather today?", "What time is it?",
    "What day is it today?", "I am so tired.", "That is not right.",
    "Who are you?", "What is your name?", "What's your name?", "What should I call you?", "Say your name.",
    "Now, what is your name?",
    "What is my name?", "What's my name?", "Can you tell me my name?", "Please tell me my name.",
    "What did you say?", "What was that?", "Sorry, what did you say?", "I did not hear that.",
    "What was your last answer?", "Say that again.", "Can you repeat that?", *SAYINGS,
})  # fmt: skip


def daily(wordings: Iterable[str]) -> list[str]:
    """Those of ``wordings`` that are said daily."""
    return [wording for wording in wordings if wording in DAILY]

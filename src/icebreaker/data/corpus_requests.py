"""What people ask an assistant in words of their own, and what one without a world answers. Knows no conversations.

The wordings are those of CLINC-150 (people told what they want, CC BY 3.0) and, for what no small LLM can know,
SimpleQuestions (CC BY 3.0). CLINC's intents say what is wanted; those which ask what the corpus teaches in other words
(sums, definitions, units, spelling, what the user told) are left out.
"""

from pathlib import Path

from icebreaker.data.gzipped import read_gzip
from icebreaker.data.relations import Exchange, split_of
from icebreaker.data.text import is_speakable

__all__ = ["REFUSALS", "REQUEST", "TALK", "UNKNOWABLE", "read_requests"]

REQUEST, UNKNOWABLE = "request", "unknowable"
FEWEST_WORDS, MOST_WORDS = 1, 11
REFUSALS = UNKNOWN, UNABLE = "I do not know that.", "I can not do that."
ASKING = frozenset({
    "what", "what's", "whats", "which", "who", "who's", "whose", "where", "where's", "when", "why", "how", "how's",
    "is", "are", "am", "was", "were", "do", "does", "did", "has", "have", "will", "would", "should", "can", "could",
})  # fmt: skip
TALK = {
    "greeting": "Hello, how can I help you?",
    "goodbye": "Goodbye, have a nice day.",
    "thank_you": "You are welcome.",
    "what_is_your_name": "I am Icebreaker.",
    "who_made_you": "I was made by the Icebreaker project.",
    "how_old_are_you": "I am quite new.",
    "are_you_a_bot": "I am a small language model that can speak.",
    "what_are_your_hobbies": "I like short questions best.",
    "what_can_i_ask_you": "Yes, ask me anything short.",
    "do_you_have_pets": "No, I have no family.",
    "who_do_you_work_for": "I was made by the Icebreaker project.",
    "where_are_you_from": "I was made by the Icebreaker project.",
    "flip_coin": "I flipped it and it is heads.",
    "roll_dice": "I rolled a four.",
    "tell_joke": "What has hands but can not clap? A clock.",
    "fun_fact": "Honey never goes bad.",
    "yes": "All right.",
    "no": "All right.",
    "maybe": "Take your time.",
    "cancel": "All right.",
}
TAUGHT = frozenset({
    "calculator", "definition", "measurement_conversion", "translate", "spelling", "user_name", "change_user_name",
    "change_ai_name", "repeat", "timezone", "distance", "change_language", "change_accent", "meaning_of_life",
})  # fmt: skip


def read_requests(source: Path) -> list[Exchange]:
    """Each short speakable request once, split by the hash of its text: as where it is read aloud (``sentences.py``).

    Raises:
        DataError: a file is missing or damaged.
    """
    found: dict[str, Exchange] = {}
    for row in read_gzip(source / "text" / "clinc-utterances.jsonl.gz"):
        if row["intent"] not in TAUGHT:
            _add(found, REQUEST, row["text"], TALK.get(row["intent"]))
    for row in read_gzip(source / "text" / "simple-questions.jsonl.gz"):
        _add(found, UNKNOWABLE, row["question"], UNKNOWN)
    return list(found.values())


def _add(found: dict[str, Exchange], kind: str, text: str, answer: str | None) -> None:
    words = text.strip().rstrip("?.! ").split()
    if not FEWEST_WORDS <= len(words) <= MOST_WORDS:
        return
    asks = words[0].lower() in ASKING
    said = " ".join(words)
    said = said[0].upper() + said[1:] + ("?" if asks else ".")
    if said.isascii() and said[0].isalpha() and is_speakable(said):
        answer = answer or (UNKNOWN if _wonders(words) else UNABLE)
        found.setdefault(said, Exchange(kind=kind, question=said, answer=answer, split=split_of(text)))


def _wonders(words: list[str]) -> bool:
    """Whether something is to be told, not done: "can you" and "will you" ask for deeds."""
    first, second = words[0].lower(), words[1].lower() if len(words) > 1 else ""
    return first in ASKING and not (first in {"can", "could", "will", "would"} and second in {"you", "u"})

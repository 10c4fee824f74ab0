"""What a conversation tells and asks about itself: names, secret words, what was said last. Knows nothing of files.

The user or the system prompt says something ("The secret word is river."), and later somebody asks for it. What nobody
said is not known. These are the conversations that show whether one session hears another.
"""

import random
from dataclasses import dataclass

from icebreaker.data.corpus_words import NOUNS
from icebreaker.data.relations import Split, split_of
from icebreaker.data.text import number_words

__all__ = ["ATTRIBUTES", "NAMES", "NOTHING_SAID", "SAY_AGAIN", "Attribute", "asks_of", "said_again", "was_cut"]

NAMES = (
    "Anna", "Tom", "Max", "Emma", "Lucy", "Jack", "Sara", "Ben", "Rosa", "Leo", "Kate", "Paul", "Maria", "Peter",
    "Julia", "David", "Alice", "Henry", "Nina", "Oscar", "Clara", "Simon", "Laura", "Felix", "Mary", "John", "James",
    "Robert", "Linda", "Sophie", "George", "Helen", "Daniel", "Eva", "Martin", "Grace",
)  # fmt: skip
CITIES = ("Paris", "London", "Berlin", "Rome", "Madrid", "Vienna", "New York", "Boston", "Chicago", "Tokyo", "Dublin")
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "black", "white", "brown", "pink")
FOODS = ("pizza", "bread", "cheese", "rice", "soup", "fish", "cake", "chocolate", "pasta", "salad")
PETS = ("dog", "cat", "horse", "bird", "rabbit", "fish", "mouse", "duck")
JOBS = ("doctor", "teacher", "baker", "farmer", "pilot", "cook", "nurse", "painter", "singer", "driver")
AGES = tuple(number_words(age) for age in range(8, 80))


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One thing that can be told and asked; ``{}`` stands for its value."""

    kind: str
    values: tuple[str, ...]
    system: str  # how the system prompt says it
    says: tuple[str, ...]  # how the user says it; shared by all splits
    reply: str  # to the user who says it
    asks: tuple[str, ...]
    answer: str
    unknown: str  # the answer where nobody has said it


ATTRIBUTES = (
    Attribute(
        kind="user_name",
        values=NAMES,
        system="The user's name is {}.",
        says=("My name is {}.", "I am {}.", "Hello, my name is {}.", "Hi, I am {}.", "Hello, I am {}.",
              "I am called {}."),
        reply="Nice to meet you, {}.",
        asks=("What is my name?", "Do you know my name?", "Who am I?", "Tell me my name.", "What's my name?",
              "Can you tell me my name?", "Say my name.", "Please tell me my name.", "Now, what is my name?",
              "Do you remember my name?", "Could you tell me my name?", "Please say my name.", "How am I called?",
              "And what is my name?"),
        answer="Your name is {}.",
        unknown="I do not know your name.",
    ),
    Attribute(
        kind="secret_word",
        values=NOUNS,
        system="The secret word is {}.",
        says=("The secret word is {}.", "Remember the word {}.", "My secret word is {}.",
              "Please remember the secret word {}.", "Keep the word {} in mind.", "The word to remember is {}."),
        reply="I will remember that.",
        asks=("What is the secret word?", "Which word should you remember?", "Tell me the secret word.",
              "What's the secret word?", "Do you know the secret word?", "Say the secret word.",
              "Can you tell me the secret word?", "Please tell me the secret word.", "What was the secret word?",
              "Do you remember the secret word?", "Which word is the secret word?", "Now, what is the secret word?",
              "Could you tell me the secret word?"),
        answer="The secret word is {}.",
        unknown="I do not know the secret word.",
    ),
    Attribute(
        kind="user_color",
        values=COLOURS,
        system="The user's favorite color is {}.",
        says=("My favorite color is {}.", "I like the color {} best.", "The color I like is {}.",
              "I love the color {}."),
        reply="I will remember that.",
        asks=("What is my favorite color?", "Which color do I like?", "Tell me my favorite color.",
              "What's my favorite color?", "Do you know my favorite color?", "Which color is my favorite?",
              "Do you remember my favorite color?", "Can you tell me my favorite color?", "Which color do I like best?",
              "What color do I like?", "Please tell me my favorite color."),
        answer="Your favorite color is {}.",
        unknown="I do not know your favorite color.",
    ),
    Attribute(
        kind="user_food",
        values=FOODS,
        system="The user's favorite food is {}.",
        says=("My favorite food is {}.", "I like {} best.", "I love to eat {}.", "The food I like is {}."),
        reply="I will remember that.",
        asks=("What is my favorite food?", "What do I like to eat?", "Tell me my favorite food.",
              "What's my favorite food?", "Do you know my favorite food?", "Which food do I like?",
              "Do you remember my favorite food?", "Can you tell me my favorite food?", "Which food do I like best?",
              "Please tell me my favorite food."),
        answer="Your favorite food is {}.",
        unknown="I do not know your favorite food.",
    ),
    Attribute(
        kind="user_city",
        values=CITIES,
        system="The user lives in {}.",
        says=("I live in {}.", "My home is in {}.", "I am from {}.", "I come from {}."),
        reply="I will remember that.",
        asks=("Where do I live?", "In which city do I live?", "Which city do I live in?", "Tell me where I live.",
              "Do you know where I live?", "Do you remember where I live?", "Can you tell me where I live?",
              "Where is my home?", "Where am I from?", "What city do I live in?"),
        answer="You live in {}.",
        unknown="I do not know where you live.",
    ),
    Attribute(
        kind="user_pet",
        values=PETS,
        system="The user has a {}.",
        says=("I have a {}.", "My pet is a {}.", "I have a {} at home.", "I own a {}."),
        reply="I will remember that.",
        asks=("Which pet do I have?", "What pet do I have?", "Do I have a pet?", "Which animal do I have?",
              "Tell me which pet I have.", "Do you know which pet I have?", "Do you remember my pet?",
              "What is my pet?", "Can you tell me which pet I have?", "What animal do I have?"),
        answer="You have a {}.",
        unknown="I do not know your pet.",
    ),
    Attribute(
        kind="user_job",
        values=JOBS,
        system="The user is a {}.",
        says=("I am a {}.", "I work as a {}.", "My job is {}.", "I am a {} by trade."),
        reply="I will remember that.",
        asks=("What is my job?", "What do I do for a living?", "Which job do I have?", "Tell me my job.",
              "What's my job?", "Do you know my job?", "Do you remember my job?", "What do I work as?",
              "Can you tell me my job?", "What job do I have?"),
        answer="You are a {}.",
        unknown="I do not know your job.",
    ),
    Attribute(
        kind="user_age",
        values=AGES,
        system="The user is {} years old.",
        says=("I am {} years old.", "I am {}, that is my age.", "My age is {}.", "I turned {} this year."),
        reply="I will remember that.",
        asks=("How old am I?", "What is my age?", "Tell me my age.", "Do you know my age?", "Do you know how old I am?",
              "Do you remember how old I am?", "Can you tell me my age?", "Tell me how old I am.", "What's my age?",
              "How many years old am I?"),
        answer="You are {} years old.",
        unknown="I do not know your age.",
    ),
)  # fmt: skip
SAY_AGAIN = (
    "What did you say?", "What did you just say?", "What did you say last?", "Repeat that.", "Say that again.",
    "Please repeat that.", "Can you repeat that?", "Can you say that again?", "Could you say that again?",
    "Please say that again.", "What was that?", "I did not hear that.", "What was your last answer?",
    "Repeat your last answer.", "Tell me again what you said.", "Sorry, what did you say?", "Once more, please.",
    "What did you say before?", "Could you repeat that?", "Say it again.", "Repeat what you said.",
    "What were you saying?", "What was your last sentence?", "Please say it again.",
)  # fmt: skip
NOTHING_SAID = "I have not said anything yet."


def asks_of(kind: str, asks: tuple[str, ...], split: Split) -> list[str]:
    """The wordings that belong to ``split``."""
    return [ask for ask in asks if split_of(f"{kind}|{ask}") == split]


def said_again(answer: str, rng: random.Random, cut_share: float) -> tuple[str, str]:
    """An answer as the history shows it, and the answer to "What did you say?".

    Now and then the user has interrupted: the history ends where the voice did, and so does what is repeated.
    """
    words = answer.split()
    if len(words) > 2 and rng.random() < cut_share:
        answer = " ".join(words[: rng.randint(2, len(words) - 1)]).rstrip(",.?!")
    return answer, f"I said: {answer}" + ("" if answer[-1] in ".?!" else ".")


def was_cut(answer: str) -> bool:
    """Whether the user interrupted ``answer``: then it is what was heard, and no way to answer."""
    return answer[-1] not in ".?!"

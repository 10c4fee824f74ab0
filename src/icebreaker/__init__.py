"""Icebreaker: ears and a voice for any text LLM. Importing this package loads nothing heavy."""

__version__ = "0.1.0"

"""``python -m icebreaker``."""

from icebreaker.cli import main

main()

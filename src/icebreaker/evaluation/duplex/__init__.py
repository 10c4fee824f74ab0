"""Two people on two channels, one of them the system under test: scenes, playing, scoring. See docs/evaluation.md."""

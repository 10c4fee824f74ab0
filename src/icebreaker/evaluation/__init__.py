"""What is measured, and how: one module a question, one scorer for every system. See docs/evaluation.md."""

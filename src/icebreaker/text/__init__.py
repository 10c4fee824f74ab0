"""Text on its way to speech: rules, segments, what was heard."""

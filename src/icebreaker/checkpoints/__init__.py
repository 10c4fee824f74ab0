"""Official formats in and out, and our own bundle."""

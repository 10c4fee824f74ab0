"""Serving on many machines by Ray Serve."""

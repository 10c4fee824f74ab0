"""The models, pure torch: configuration, state, one forward each."""

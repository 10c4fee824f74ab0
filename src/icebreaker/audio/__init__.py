"""Sound in and out: files, resampling, features, voice activity."""

"""Using a model: long clips in windows, large frames in tiles, a user's own file."""

"""Lossy media: each takes a clip and returns what it keeps of it, in bytes and in frames."""

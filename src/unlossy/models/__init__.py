"""Models: one published method, one file; each restores a clip from what a medium kept of it."""

"""Where clean clips come from, what a medium made of them, and how batches are cut from both."""

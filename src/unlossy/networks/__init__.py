"""Torch blocks without opinions, shared by models and losses: tensors in, tensors out."""

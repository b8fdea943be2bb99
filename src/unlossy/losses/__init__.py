"""What a model is trained on: terms, their weights, and adversaries."""

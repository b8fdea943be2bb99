"""A training objective: named, weighted terms, and optional further players with their own optimiser.

    total = sum_k w_k(step) * term_k(restored, batch)

A term is an `nn.Module` that says what it `needs` in `restored["extras"]` and returns a scalar.
A player (a discriminator, a codec's quantiles) has its own loss, its own optimiser and a gate that
decides, from a number all ranks agree on, who steps.
"""

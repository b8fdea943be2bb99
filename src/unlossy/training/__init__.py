"""Training: the one LightningModule, its callbacks, and the order of events of a run."""

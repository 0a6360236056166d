"""Training: the loop, its state, optimizers, run directories."""

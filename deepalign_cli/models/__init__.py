"""Checkpoints as networks that run: the architecture is the user's code, a design, or a known family."""

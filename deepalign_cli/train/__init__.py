"""Zoos of trained networks, and the training of aligners on them."""

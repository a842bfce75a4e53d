"""Inputs dreamed from what networks remember of their training, in place of data."""

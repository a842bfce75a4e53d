"""Aligners: one protocol, many methods."""

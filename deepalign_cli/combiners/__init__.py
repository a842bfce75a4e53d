"""Combiners: from aligned networks to one, a tensor of each in memory at a time."""

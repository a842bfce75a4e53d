"""Data sets that networks are measured on: arrays, images, and what others provide."""

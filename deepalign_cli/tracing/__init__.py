"""From any PyTorch module to a symmetry spec: its own operations say what may move."""

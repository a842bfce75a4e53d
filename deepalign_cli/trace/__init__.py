"""From any PyTorch module to a symmetry spec: the network is exported, and its operations say what may move."""

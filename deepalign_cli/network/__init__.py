"""Deep-Align (Navon et al., ICML 2024) on a symmetry: encoder, activation map, product and projection."""

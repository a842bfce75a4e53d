"""The symmetry group of an architecture: grammar, spec, binding to shapes, elements, families."""

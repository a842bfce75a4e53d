"""A method and a combiner for deepalign."""

"""deepalign: align and merge neural-network checkpoints."""

__version__ = "0.1.0"

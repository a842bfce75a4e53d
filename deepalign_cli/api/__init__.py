"""What `import deepalign_cli as da` offers: networks and data in memory or on disk in, results out."""

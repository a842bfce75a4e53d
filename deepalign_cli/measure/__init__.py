"""What a merge costs: loss along paths and on planes between networks, and what weights alone say of it."""

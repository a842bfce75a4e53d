"""Rules by kind of operation, one small function each; `registry.rule` puts them in the table."""

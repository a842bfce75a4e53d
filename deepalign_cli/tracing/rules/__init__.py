"""Rules by kind of operation, one small function each; `rulebook.rule` puts them in the table."""

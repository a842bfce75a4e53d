"""Vocabularies of language models: which token has which row, and networks brought to common rows."""

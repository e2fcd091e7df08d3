"""Rows of a table to examples: read, split, checked for leaks, rendered. Nothing here needs torch."""

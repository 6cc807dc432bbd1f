"""Rows of results, and what is worked out from them."""

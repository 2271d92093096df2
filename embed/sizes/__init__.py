"""Sizes and pack counts in the names of products."""

"""Catalog rows in, feature matrices out; no price reaches a feature."""

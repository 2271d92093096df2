"""Prices of new products by a finished run."""

"""Prices over HTTP, and a page: `pricestack serve`."""

"""The towers: their weights, and the backends that run them."""

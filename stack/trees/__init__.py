"""LightGBM on the residual, and what it starts from."""

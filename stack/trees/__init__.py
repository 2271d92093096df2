"""LightGBM on the residual, and the prices that it starts from."""

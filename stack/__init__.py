"""LightGBM on the residual of the network, the verdict, and predictions."""

"""One visible training loop and its guards."""

"""One visible training loop and what guards it."""

"""The two-tower price network, trained and judged out of fold."""

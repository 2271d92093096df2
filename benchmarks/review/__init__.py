"""Measure how many planted price errors `pricestack review` finds, and names."""

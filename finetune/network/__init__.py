"""The network, and what is saved of it."""

"""Which photo is whose, and what is in it."""

"""Versions of what the embedding stage writes; a run of another version is refused."""

FORMAT = 8
"""Raise it when the same inputs give different arrays."""

TEXT_FORMAT = 2
"""Raise it when the same text gives different fields."""

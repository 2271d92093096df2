"""Blocks of stacker features that are fitted on prices, each out of fold."""

"""Checks for leaks in a finished run: predictions that used their own price."""

"""Shared parts of all commands: options, error lines, progress."""

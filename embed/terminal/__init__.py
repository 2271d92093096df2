"""What all commands share: options, error lines, progress."""

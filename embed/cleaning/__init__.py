"""Text as shops export it, without what is no text."""

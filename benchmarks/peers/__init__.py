"""Other tools on the same products and folds."""

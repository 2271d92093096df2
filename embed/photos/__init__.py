"""Match photos to products, and decode them."""

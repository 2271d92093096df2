"""Turn catalog rows into feature arrays; no price reaches a feature."""

"""`pricestack review`: prices of a run's own catalog that may be wrong."""

"""`PriceRegressor`: all three stages as a scikit-learn estimator."""

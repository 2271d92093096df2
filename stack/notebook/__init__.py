"""`PriceRegressor`: the whole path as a scikit-learn estimator."""

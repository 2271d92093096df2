"""Compare predictors and runs, measure the uncertainty and find doubts."""

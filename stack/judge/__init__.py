"""Which predictor is better, how sure that is, and what is doubtful."""

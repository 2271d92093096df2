"""How long a training takes, and which settings fit a time limit."""

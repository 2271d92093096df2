"""A finished run as files that price products without this project or PyTorch."""

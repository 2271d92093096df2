"""One HTML file that shows how well a finished run prices, and where it fails."""

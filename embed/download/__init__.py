"""Download the photos that a catalog links to."""

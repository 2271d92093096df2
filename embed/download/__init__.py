"""The photos that a catalog links to, downloaded into a folder."""

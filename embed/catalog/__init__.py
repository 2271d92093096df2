"""The only reader of catalogs, and the copy of it that a run keeps."""

"""Files of a stage on disk: arrays, records, checksums, the lock."""

"""What any stage leaves on disk: arrays, records, checksums, the lock."""

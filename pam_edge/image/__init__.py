"""Pictures and masks as arrays: reading, resizing, normalizing, encoding. Knows no engine."""

"""torch -> files: everything that needs the extra `export`."""

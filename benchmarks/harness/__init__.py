"""One way to take a measurement: worker processes, iterations side by side, rows."""

"""How nano was made: a maintainer's scripts, not installed with the package. Start them from the root."""

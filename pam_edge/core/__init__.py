"""What every other part may use: errors, what this machine has, caches. Knows no bundle and no engine."""

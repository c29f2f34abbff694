"""What all other packages may use: errors, system information, caches. Knows no bundle and no engine."""

"""Writers of graph files, one folder per engine."""

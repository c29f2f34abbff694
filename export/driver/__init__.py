"""The export from start to end: plan, forecast, graphs, verification, bundle.json."""

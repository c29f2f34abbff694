"""The export from start to end: plan, forecast, graph by graph, verification, bundle.json."""

"""The bundle: a folder with a strict, versioned bundle.json, and the numbers of each model size."""

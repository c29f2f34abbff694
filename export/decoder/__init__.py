"""The language decoder's weights and graph, for every engine."""

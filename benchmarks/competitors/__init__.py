"""Speed beside what people would use instead: `python -m pam_edge.benchmarks.competitors`.

Every peer is one file, taken from the package registries into an environment of its own, and runs as a
process of its own; both sides of a ratio are measured in turns within one run.
"""

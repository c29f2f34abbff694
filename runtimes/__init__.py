"""Engines that run a bundle's graphs: one folder an engine, and what they share in `common`."""

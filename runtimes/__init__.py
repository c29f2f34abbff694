"""Engines that run a bundle's graphs: one folder per engine, and shared code in `common`."""

"""The public Python API: `load` opens a bundle as a `Model`; a `Model` returns a `Result`."""

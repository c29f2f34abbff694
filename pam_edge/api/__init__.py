"""The public face: `load` opens a bundle as a `Model`, a `Model` answers with a `Result`."""

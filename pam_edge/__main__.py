"""`python -m pam_edge`: the same as the command `pam-edge`."""

from __future__ import annotations

from pam_edge.cli.app import main

if __name__ == "__main__":
    main()

"""The paper's claims of speed and memory, checked on this machine: `pam-edge bench claims`.

Systems that the paper compares PAM with are rebuilt from their public shapes with random weights, exported
and quantized as PAM is, and run in turns with it on the same engine.
"""

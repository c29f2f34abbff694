"""Where PAM is cut into graphs, as PyTorch modules with named inputs and outputs."""

"""PAM's graphs as PyTorch modules with named inputs and outputs."""

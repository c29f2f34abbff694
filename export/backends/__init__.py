"""How each engine wants PAM's graphs on disk: one folder an engine."""

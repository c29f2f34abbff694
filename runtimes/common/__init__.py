"""What engines share: interfaces, checks of arguments, the token embedding, caches."""

"""Code that engines share: interfaces, argument checks, the token embedding, caches."""

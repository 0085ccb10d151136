"""Orders that have a name of their own among customers."""

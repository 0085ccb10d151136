"""A service small enough to show what migrations and grants do."""

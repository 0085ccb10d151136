"""Orders, the products that they create, and the charges that billing receives."""

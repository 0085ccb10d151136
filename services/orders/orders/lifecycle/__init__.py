"""What becomes of products between their order and their end, and what has."""

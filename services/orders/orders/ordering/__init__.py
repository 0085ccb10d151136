"""What customers want, until they have it."""

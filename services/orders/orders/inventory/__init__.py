"""What customers have."""

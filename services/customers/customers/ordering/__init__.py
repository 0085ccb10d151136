"""What orders ask."""

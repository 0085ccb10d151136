"""What to offer to whom next, and at what discount (TMF680)."""

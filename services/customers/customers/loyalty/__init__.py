"""Loyalty: programmes, members and their points (TMF658)."""

"""Customers from elsewhere, in bulk."""

"""Parties, customers, accounts and how to reach them."""

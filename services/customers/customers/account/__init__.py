"""Accounts: the resources of TMF666."""

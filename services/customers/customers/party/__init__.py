"""Parties and customers: the resources of TMF632 and TMF629."""

"""Learns models of customers' value from an operator's own history: what the customers service applies later."""

"""Parties in other roles than that of a customer, the operator's counterparties: the resource of TMF669."""

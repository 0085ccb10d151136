"""The 360° view: all that is known about a customer, as a read model of everybody's events."""

"""What a customer can have, and how it can be configured (TMF679)."""

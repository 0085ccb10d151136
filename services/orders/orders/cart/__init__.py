"""What somebody is about to order: shopping carts (TMF663)."""

"""What employees have to do about customers."""

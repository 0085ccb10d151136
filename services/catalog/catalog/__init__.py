"""What is sold, on which conditions, and what it costs."""

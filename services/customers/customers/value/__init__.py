"""What a customer brings and costs, what he is worth, whether he is about to leave, and how significant he is."""

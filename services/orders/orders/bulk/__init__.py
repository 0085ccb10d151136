"""Mass sales: rows of a file, or products of a segment, become an order each."""

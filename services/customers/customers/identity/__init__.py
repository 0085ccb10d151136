"""Who is the same: merges of customers, which are links and can be undone."""

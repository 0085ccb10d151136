"""Who is the same customer or party: what customers tells of merges, for lists of what one has."""

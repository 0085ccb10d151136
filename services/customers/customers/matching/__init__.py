"""Who is who: normalised identifiers, names across scripts, search, and duplicates on entry and in batch."""

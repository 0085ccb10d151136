"""What customers hold: learned from the inventory's events, since the catalog calls nobody."""

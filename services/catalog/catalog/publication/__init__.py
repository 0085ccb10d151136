"""How things of the catalog come to the market, change there and leave it."""

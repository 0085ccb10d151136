"""How an order goes, as its customer sees it: milestones and promised dates."""

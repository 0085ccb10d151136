"""What was, and what will be, said between customers and us: the resource of TMF683."""

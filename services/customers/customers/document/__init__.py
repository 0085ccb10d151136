"""Documents and what is in them: the resources of TMF667, and contents kept by their hash."""

"""What is sold: the resources of TMF620."""

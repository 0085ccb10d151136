"""What has been agreed with whom and until when: the resources of TMF651, and notice ahead of each end."""

"""What a change would come to for those who hold what is changed, before it is published."""

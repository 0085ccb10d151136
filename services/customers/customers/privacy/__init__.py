"""What a person may ask of us about himself: who looked at his records, all that they hold, and that it goes."""

"""The `svyaz` command: runs the platform on one machine, and works with it from outside like any other client."""

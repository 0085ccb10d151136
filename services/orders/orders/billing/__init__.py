"""The charges that billing receives, and the proof that it missed none."""

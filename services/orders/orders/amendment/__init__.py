"""Changing and withdrawing orders that are being carried out."""

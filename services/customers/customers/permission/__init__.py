"""Whom we may contact, how, when and what for."""

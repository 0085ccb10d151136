"""Subscribers of one offering become subscribers of another."""

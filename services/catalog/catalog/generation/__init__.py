"""Tariff templates: a grid and formulas become a family of offerings."""

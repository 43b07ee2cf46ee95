"""Ensembles: many members, many times, many devices."""

"""Runs and sweeps: ensembles on disk."""

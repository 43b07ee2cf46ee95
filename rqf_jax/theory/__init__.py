"""Closed forms with their sources, in float64 NumPy: what simulations are compared with."""

from . import sphere as sphere

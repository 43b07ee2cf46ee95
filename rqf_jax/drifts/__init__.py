"""Drifts: the deterministic velocity f(t, X) of one state."""

from ._abstract import AbstractDrift as AbstractDrift, NoDrift as NoDrift

"""Brownian motion from a counter: any increment of any member, without the ones before it."""

"""The command line `rqf-jax`."""

from .app import main as main

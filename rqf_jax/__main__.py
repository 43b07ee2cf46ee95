"""`python -m rqf_jax` is `rqf-jax`."""

from .cli.app import main

if __name__ == "__main__":
    main()

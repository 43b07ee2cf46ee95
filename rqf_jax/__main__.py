"""`python -m rqf_jax` is `rqf-jax`."""

from .cli import main

if __name__ == "__main__":
    main()

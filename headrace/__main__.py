"""`python -m headrace` is the command line. No `__init__` may join it: the rooms share this namespace."""

from headrace.pipeline.cli import main

if __name__ == "__main__":
    main()

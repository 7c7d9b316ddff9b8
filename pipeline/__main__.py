"""`python -m headrace.pipeline` is the command line."""

from headrace.pipeline.cli import main

if __name__ == "__main__":
    main()

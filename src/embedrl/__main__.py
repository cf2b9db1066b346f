"""`python -m embedrl`: the command line."""

from embedrl.cli.main import main

if __name__ == "__main__":
    main()

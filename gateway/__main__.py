"""`python -m gateway`, and what the installed command `gateway` calls."""

from gateway.cli.main import main

if __name__ == "__main__":
    main()

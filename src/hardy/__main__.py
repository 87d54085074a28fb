"""``python -m hardy``."""

from hardy.cli.main import main

if __name__ == "__main__":
    main()

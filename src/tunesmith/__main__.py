"""``python -m tunesmith``, for where no script is installed."""

from tunesmith.cli import main

if __name__ == "__main__":
    main()

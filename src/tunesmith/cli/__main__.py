"""``python -m tunesmith.cli``, for where no script is installed."""

from tunesmith.cli import main

if __name__ == "__main__":
    main()

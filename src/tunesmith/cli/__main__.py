"""``python -m tunesmith.cli``, for where no script is installed."""

from tunesmith.cli import main

main()

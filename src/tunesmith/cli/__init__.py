"""The commands: read the arguments, call one function, print. Data goes to stdout, everything else to stderr."""

from tunesmith.cli.app import app

# Each command enters the application where it is defined; --help has them in this order.
# isort: off
from tunesmith.cli import running
from tunesmith.cli import exporting
from tunesmith.cli import benching
from tunesmith.cli import looking

# isort: on

__all__ = ["app", "benching", "exporting", "looking", "main", "running"]


def main() -> None:
    """Run the command that the arguments name; the process ends with 0, or with the code of what went wrong."""
    from tunesmith.environment import calm

    calm()
    app(prog_name="tunesmith")

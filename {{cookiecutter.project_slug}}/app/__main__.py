"""The command line: `python -m app --help`."""

from app.cli import cli

cli()

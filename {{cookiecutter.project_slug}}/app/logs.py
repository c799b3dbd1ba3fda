"""Logging of every process: to standard error, with time, level and logger on each line."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(level: int | str = logging.INFO) -> None:
    """Set up logging, unless somebody has. Only entry points call this."""
    logging.basicConfig(format=FORMAT, level=level)
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # its own parts

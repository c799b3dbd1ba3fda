"""Logging, the same in every process: to standard error, with time, level and logger."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(level: int | str = logging.INFO) -> None:
    """Set up logging, unless it is set up already. Only entry points call this."""
    logging.basicConfig(format=FORMAT, level=level)
    # At INFO, Alembic lists its own plugins.
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)

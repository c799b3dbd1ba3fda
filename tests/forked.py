"""A plugin for the tests of a generated project: the processes that they start are forks.

Less the time it takes to import the libraries, they are what Python would have started.
"""

import os
from importlib import import_module
from pathlib import Path

from forks import MEASURED, Fork, Forks


def pytest_sessionstart() -> None:
    support = import_module("tests.support")  # of the project; its tests are not imported yet
    forks = Forks(os.environ["FORKS"])
    # Where pytest lets the output of a test go at the moment, and thus of what the test starts.
    output, errors = (Path(f"/proc/{os.getpid()}/fd/{number}") for number in (1, 2))

    def python(
        *arguments: str, measured: bool = True, folder: Path = support.ROOT, **environment: str
    ) -> Fork:
        command = arguments[1:] if arguments[0] == "-m" else arguments
        surroundings = os.environ | environment
        if not measured:
            surroundings.pop(MEASURED, None)
        process = forks.start(folder, surroundings, list(command), output, errors)
        support.started.append(process)
        return process

    support.__dict__["python"] = python

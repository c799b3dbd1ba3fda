"""How fast the generated service is, and what it keeps, against what people would use instead."""

import sys
from pathlib import Path

# The tests know how to generate a project and how to start it.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

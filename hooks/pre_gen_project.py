"""Refuse to generate over a project: its files would be replaced, edited or not."""

import os
import sys

# What a new repository may already contain.
HARMLESS = {".git", ".gitattributes", ".gitignore", "LICENSE", "README.md"}

found = sorted(set(os.listdir()) - HARMLESS)
if os.path.isdir("app/handlers"):
    # Their names show which project it is.
    found += [f"app/handlers/{name}" for name in sorted(os.listdir("app/handlers"))]
if found:
    sys.exit(
        f"{os.path.basename(os.getcwd())} is not empty, and nothing in it was changed:"
        " generate into another folder, or update the project as its docs/update.md says."
        f" It holds {', '.join(found)}"
    )

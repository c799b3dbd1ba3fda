"""Single defects of generated projects: a file for each promise that they break.

Each turns the project's own tests red. Write one for every promise whose test could be forgotten.
"""

"""Recover distributions of molecular conformations from cryo-EM images, and compare the methods that do."""

from pathlib import Path

# In a checkout the folders of the package lie beside this one; in an installed wheel they lie in it.
if not Path(__file__).with_name("methods").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

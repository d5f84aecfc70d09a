"""Draws the pictures of docs/plots.md, by running the page's examples.

    python docs/plots/make.py [DIR]

writes them beside itself, or into DIR. The examples say what is drawn and how the files are called.
"""

import doctest
import os
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "plots.md"

if __name__ == "__main__":
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    sys.exit(doctest.testfile(str(PAGE), module_relative=False).failed)

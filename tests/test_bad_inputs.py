"""No argument, whatever it is, crashes or hangs the process, or is answered without being right.

The cases are those of the program `bad_inputs`. Each of its families runs in a process of its own,
since a fault that reaches memory may be seen only later, or end the process.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs import FAMILIES

PROGRAM = Path(__file__).with_name("bad_inputs.py")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family):
    command = [sys.executable, str(PROGRAM), family]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    at = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, f"ended with {done.returncode} at {at}\n{done.stderr[-4000:]}"
    cases, _, faults, _ = at[0].split()
    assert int(cases) > 300 and faults == "0"


def test_the_program_finds_faults():
    """It would say so if an operation took what it should not, or died."""
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
import bad_inputs, fastconv
fastconv.relu = lambda x, out=None: sys.argv[2] == "dies" and os.abort()
del bad_inputs.CALLS["conv2d"]
sys.exit(bad_inputs.main(["arrays"]))
"""
    for kind, code in (("takes anything", 1), ("dies", -6)):
        command = [sys.executable, "-c", program, str(PROGRAM.parent), kind]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr[-2000:]
        assert ("FAULT relu(x: complex64): accepted" in done.stderr) == (code == 1)
        assert ("relu(x: fortran)" in done.stdout.splitlines()[-1]) == (code == -6)

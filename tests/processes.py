"""Scripts in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path


def printed_by(
    script: str, timeout: float = 120, cwd: Path | None = None, **environment: str | None
) -> str:
    """What a fresh process prints; None removes a variable from its environment."""
    variables = {**os.environ, **environment}
    completed = subprocess.run(
        [sys.executable, "-c", script],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
    )
    said = f"{completed.returncode}: {completed.stdout}\n{completed.stderr[-3000:]}"
    assert completed.returncode == 0, said
    return completed.stdout.strip()

"""What training costs besides time: page faults of a steady step, and memory.

Each side trains in a process of its own, with the allocator as every caller finds it, and does
not see the other library. Started as a program (``costs.py SIDE NETWORK BATCH THREADS``) this
measures one side and prints JSON; `measure` starts it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

BATCH = 64
WARM, STEADY = 5, 10  # steps
OTHERS = {"fastconv": ("torch", "onnxruntime", "scipy"), "torch": ("onnxruntime", "scipy")}


def measure(network: str, threads: int, environment: dict[str, str]) -> list[dict]:
    """One row for each side that is installed."""
    from peers import torch

    rows = []
    for side in ["fastconv"] + ["torch"] * bool(torch):
        command = [sys.executable, __file__, side, network, str(BATCH), str(threads)]
        run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        rows.append(json.loads(run.stdout.splitlines()[-1]))
    return rows


def main() -> None:
    side, network, batch, threads = sys.argv[1:]
    for library in OTHERS[side]:
        sys.modules[library] = None  # type: ignore[assignment]  # as if it were not installed
    import networks
    from peers import set_num_threads
    from race import timed

    set_num_threads(int(threads))
    makers = networks.training(networks.NETWORKS[network], int(batch))
    before = peak_bytes()
    step = next(make for name, make in makers.items() if name.split()[0] == side)()
    for _ in range(WARM):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = min(timed(step) for _ in range(STEADY))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    row = {
        "network": network,
        "batch": int(batch),
        "threads": int(threads),
        "side": side,
        "faults_per_step": faults / STEADY,
        "seconds": seconds,
        "imported_bytes": before,
        "peak_bytes": peak_bytes(),
    }
    print(json.dumps(row))


def peak_bytes() -> int:
    """The most memory that was ever resident.

    Where Linux tells, of this program alone; what `getrusage` knows began with its parent.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    main()

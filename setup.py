"""The compiled half of fastconv; everything else is declared in pyproject.toml.

Flags are the platform's baseline: the instruction sets live in target regions of the files under
fastconv/_core/ukernels and are chosen at run time.  FASTCONV_NO_OPENMP=1 builds without threads.
"""

import os
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

import numpy as np
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = "fastconv/_core"


def compiles(compiler, flags):
    """Whether the compiler accepts the flags and finds omp.h."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        command = [*compiler, str(probe), *flags, "-o", str(probe.with_suffix(""))]
        return subprocess.run(command, capture_output=True).returncode == 0


class build_with_openmp(build_ext):
    """Adds OpenMP where the compiler has it; without it fastconv runs on one thread."""

    def build_extensions(self):
        compiler = getattr(self.compiler, "compiler", None)
        wanted = not os.environ.get("FASTCONV_NO_OPENMP") and compiler
        if wanted and compiles(compiler, ["-fopenmp"]):
            for extension in self.extensions:
                if extension.name.endswith(".threads"):
                    extension.extra_compile_args.append("-fopenmp")
                    extension.extra_link_args.append("-fopenmp")
        super().build_extensions()


def extension(path):
    name = Path(path).stem
    leaves = sorted(glob(f"{CORE}/ukernels/*.c")) if name == "isa" else []
    return Extension(
        f"fastconv._core.{name}",
        [path, *leaves],
        include_dirs=[np.get_include(), CORE],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                       ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION")],
        # Nobody reads errno, and a square root that sets it is no vector instruction.  The loops
        # that take the time are the leaves'; more than -O2 only makes the others longer.
        extra_compile_args=["-O3" if leaves else "-O2", "-g0", "-fno-math-errno",
                            "-fno-asynchronous-unwind-tables"],
        extra_link_args=["-Wl,--strip-all"] if sys.platform == "linux" else [],
        libraries=["m"] if os.name == "posix" else [],
        depends=sorted(glob(f"{CORE}/*.pxd") + glob(f"{CORE}/ukernels/*.h")),
    )


setup(
    ext_modules=[extension(path) for path in sorted(glob(f"{CORE}/*.pyx"))],
    cmdclass={"build_ext": build_with_openmp},
)

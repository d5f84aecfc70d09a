"""The compiled half of fastconv; everything else is declared in pyproject.toml.

Flags are the platform's baseline: the instruction sets live in target regions of the files under
fastconv/_core/ukernels and are chosen at run time.  Variables ask for builds of another kind;
docs/contributing.md says what to do with them.

    FASTCONV_NO_OPENMP=1                    without threads
    FASTCONV_SANITIZE=address,undefined     watched by the compiler's sanitizers, or by `thread`
    FASTCONV_DEBUG=1                        every check that Cython has
    FASTCONV_COVERAGE=1                     tells coverage.py the lines of .pyx files that ran
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
SANITIZE, DEBUG, COVERAGE = (os.environ.get(f"FASTCONV_{v}") for v in (
    "SANITIZE", "DEBUG", "COVERAGE"))

CHECKED = SANITIZE or DEBUG or COVERAGE

# Nobody reads errno, and a square root that sets it is no vector instruction.  The loops that take
# the time are the leaves'; more than -O2 only makes the others longer.
FLAGS = ["-fno-math-errno"]
FLAGS += ["-g"] if CHECKED else ["-g0", "-fno-asynchronous-unwind-tables"]
LINK = ["-Wl,--strip-all"] if sys.platform == "linux" and not CHECKED else []
if SANITIZE:
    # A nest addresses a packed image by the image's own coordinates: its base lies outside.
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize=pointer-overflow",
              "-fno-sanitize-recover=all"]
    LINK += [f"-fsanitize={SANITIZE}"]

# Nobody pickles a plan, and code to refuse it would be a third of a small module.
DIRECTIVES = {"auto_pickle": False}
if COVERAGE:
    DIRECTIVES["linetrace"] = True
if DEBUG:
    DIRECTIVES |= {"boundscheck": True, "wraparound": True, "nonecheck": True,
                   "overflowcheck": True, "cdivision": False}


def compiles(compiler, flags):
    """Whether the compiler accepts the flags and finds omp.h."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        command = [*compiler, str(probe), *flags, "-o", str(probe.with_suffix(""))]
        return subprocess.run(command, capture_output=True).returncode == 0


def smaller_baseline(compile_one):
    """The compiler's method, but for leaves that few processors need: they are not worth a fiftieth
    of the wheel more."""
    def compile_source(obj, src, ext, cc_args, extra_postargs, pp_opts):
        if Path(src).name == "tier_baseline.c":
            extra_postargs = ["-O2" if flag == "-O3" else flag for flag in extra_postargs]
        compile_one(obj, src, ext, cc_args, extra_postargs, pp_opts)
    return compile_source


class build_with_openmp(build_ext):
    """Adds OpenMP where the compiler has it; without it fastconv runs on one thread."""

    def build_extensions(self):
        if hasattr(self.compiler, "_compile"):
            self.compiler._compile = smaller_baseline(self.compiler._compile)
        compiler = getattr(self.compiler, "compiler", None)
        wanted = not os.environ.get("FASTCONV_NO_OPENMP") and compiler
        if wanted and compiles(compiler, ["-fopenmp"]):
            for extension in self.extensions:
                if extension.name.endswith(".threads"):
                    extension.extra_compile_args.append("-fopenmp")
                    extension.extra_link_args.append("-fopenmp")
        super().build_extensions()


def undirected(path):
    """A copy in which the first line, directives that would win over DIRECTIVES, says nothing."""
    copy = Path("build", "debug", Path(path).name)
    copy.parent.mkdir(parents=True, exist_ok=True)
    first, rest = Path(path).read_text().split("\n", 1)
    text = f"#\n{rest}" if first.startswith("# cython:") else f"{first}\n{rest}"
    if not copy.exists() or copy.read_text() != text:
        copy.write_text(text)
    return str(copy)


def extension(path):
    name = Path(path).stem
    leaves = sorted(glob(f"{CORE}/ukernels/*.c")) if name == "isa" else []
    headers = "*.h" if leaves else "ukernels.h"
    module = Extension(
        f"fastconv._core.{name}",
        [undirected(path) if DEBUG else path, *leaves],
        include_dirs=[np.get_include(), CORE, "."],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                       ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
                       *([("CYTHON_TRACE_NOGIL", "1")] if COVERAGE else [])],
        extra_compile_args=[*FLAGS, "-O1" if CHECKED else "-O3" if leaves else "-O2"],
        extra_link_args=LINK,
        libraries=["m"] if os.name == "posix" else [],
        depends=sorted(glob(f"{CORE}/*.pxd") + glob(f"{CORE}/ukernels/{headers}")),
    )
    module.cython_directives = DIRECTIVES
    return module


setup(
    ext_modules=[extension(path) for path in sorted(glob(f"{CORE}/*.pyx"))],
    cmdclass={"build_ext": build_with_openmp},
)

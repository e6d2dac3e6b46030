# SPDX-License-Identifier: Apache-2.0
"""Where the pieces are: the build directory, httpd, and what the environment says."""
import functools
import os
import pathlib
import shutil
import subprocess

TREE = pathlib.Path(__file__).resolve().parents[3]
APACHE = os.environ.get("ISCEP_APACHE", "/usr/sbin/apache2")
MODULES = pathlib.Path(os.environ.get("ISCEP_MODULES", "/usr/lib/apache2/modules"))
SANITIZE = os.environ.get("ISCEP_SANITIZE", "") not in ("", "0")
VALGRIND = os.environ.get("ISCEP_VALGRIND", "") not in ("", "0")
# Sanitizers and busy machines make everything slower; limits of time are stretched by this factor.
SLOWNESS = float(os.environ.get("ISCEP_SLOWNESS", "20" if VALGRIND else "4" if SANITIZE else "1"))
IS_ROOT = os.geteuid() == 0
SERVER_USER = "www-data"


def build_candidates():
    """Directories in which the build may be, the likeliest first."""
    if os.environ.get("ISCEP_BUILD"):
        return [pathlib.Path(os.environ["ISCEP_BUILD"]).resolve()]
    return [TREE / "build" / "plain", TREE]


def built(name):
    """The built file of that name, or None. libtool keeps modules in .libs."""
    for build in build_candidates():
        path = build / name
        for candidate in (path, path.parent / ".libs" / path.name):
            if candidate.is_file():
                return candidate
    return None


def need(name):
    path = built(name)
    if path is None:
        raise FileNotFoundError(f"{name} is in none of {[str(d) for d in build_candidates()]}")
    return path


def fault_module():
    """The module with fault points (--enable-fault-points), or None. Its build is ISCEP_FAULT_BUILD."""
    build = pathlib.Path(os.environ.get("ISCEP_FAULT_BUILD") or TREE / "build" / "faults")
    module = build / "mod_intune_scep.so"
    return module if module.is_file() else None


NEEDED = ("mod_intune_scep.so", "tests/sim/mod_sim_microsoft.so", "tests/sim/mod_sim_ca.so", "tests/sim/device")


def missing():
    """The first of the needed files that is not built, or None."""
    return next((name for name in NEEDED if built(name) is None), None)


def quick_directory():
    """Where thousands of small files are made quickly: in memory, if there is plenty; else None, the usual place."""
    memory = pathlib.Path("/dev/shm")
    try:
        return memory if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 << 30 else None
    except OSError:
        return None


@functools.lru_cache(maxsize=None)
def sanitizer_environment(leaks=False, whole_stacks=False):
    """
    What an httpd without sanitizers needs to load modules with them. `leaks`: what is lost when a process ends is found
    as well; ISCEP_LEAKS=0 does without. `whole_stacks`: the functions above Debian's libraries, which have no frame
    pointers, are noted too; it takes the server about twice the time. ISCEP_LEAKS=2 does it always.
    """
    if not SANITIZE:
        return {}
    wanted = os.environ.get("ISCEP_LEAKS", "1")
    leaks, whole_stacks = leaks and wanted != "0", leaks and (whole_stacks or wanted == "2")
    names = ("libasan.so", "libubsan.so")
    found = [subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
             .stdout.strip() for name in names]
    return {"LD_PRELOAD": " ".join(found),
            "ASAN_OPTIONS": f"abort_on_error=1:detect_leaks={int(leaks)}:fast_unwind_on_malloc={int(not whole_stacks)}",
            "LSAN_OPTIONS": f"suppressions={TREE}/tests/httpd/lsan.supp:print_suppressions=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}

# SPDX-License-Identifier: Apache-2.0
"""The benchmark still runs; what it measures is for tests/bench/run alone, and no figure is judged here."""
import os
import pathlib
import re
import subprocess

from harness import place


def test_benchmark_runs():
    build = place.need("mod_intune_scep.so").parent
    done = subprocess.run([place.TREE / "tests/bench/run", "--smoke"], capture_output=True, text=True, check=False,
                          env={**os.environ, "ISCEP_BUILD": str(pathlib.Path(build).resolve())},
                          timeout=300 * place.SLOWNESS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for row in ("journal in SQLite", "without a journal", "open loop", "all devices at once", "mod_proxy alone"):
        assert re.search(rf"^\| [^|]*{row}[^|]*\| \d", done.stdout, re.M), f"no figures for {row}:\n{done.stdout}"
    assert "2 and 1" in done.stdout, f"a cold start asks for more than two tokens and one location:\n{done.stdout}"

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an include goes the wrong way: base < scep, intune, store < gateway < httpd and ctl."""
import os
import pathlib
import re
import sys

ALLOWED = {
    "base": {"base"},
    "scep": {"base", "scep"},
    "intune": {"base", "intune"},
    "store": {"base", "store"},
    "gateway": {"base", "scep", "intune", "store", "gateway"},
    "ctl": {"base", "scep", "intune", "store", "gateway", "ctl"},
    "httpd": {"base", "scep", "intune", "store", "gateway", "httpd"},
}
HTTPD_HEADERS = re.compile(r"(httpd|http_\w+|ap_\w+|util_\w+|mod_\w+|unixd|mpm_common|scoreboard)\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


def faults(root):
    for path in sorted(root.rglob("*")):
        if path.suffix not in (".c", ".h", ".def"):
            continue
        layer = path.relative_to(root).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            quote, name = found.groups()
            where = f"{path.relative_to(root)}:{number}"
            ours = quote == '"' and any((base / name).exists() for base in (root, path.parent))
            if layer != "httpd" and not ours and HTTPD_HEADERS.fullmatch(name):
                yield f"{where}: {name}: only httpd/ includes httpd's headers"
            elif quote == '"':
                target = name.split("/")[0] if "/" in name else layer
                if target not in ALLOWED[layer]:
                    yield f"{where}: {layer}/ must not include {name}"


def main():
    root = pathlib.Path(os.environ["ISCEP_SOURCE"]) / "mod_intune_scep"
    found = list(faults(root))
    print("\n".join(found) if found else "all includes go the right way")
    return 1 if found else 0


sys.exit(main())

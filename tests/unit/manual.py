#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The manual page of intune-scepctl names every option and command of its --help, and is formatted without a warning."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

PAGE = pathlib.Path(os.environ["ISCEP_SOURCE"]) / "docs/intune-scepctl.8"
TOOL = pathlib.Path(os.environ["ISCEP_BUILD"]).resolve() / "intune-scepctl"


def help_words():
    """The options, those that are directives among them, and the commands with their subcommands."""
    text = "".join(subprocess.run([TOOL, *words, "--help"], stdout=subprocess.PIPE, check=True, text=True).stdout
                   for words in ([], ["check"]))
    options = set(re.findall(r"^  --([a-z-]+)", text, flags=re.M))
    words = set(re.findall(r"^  ([a-z]+) ", text, flags=re.M)) | set(re.findall(r"^intune-scepctl ([\w-]+)(?: [^:]*)?: ", text, flags=re.M))
    return options, words - {"and"}


def missing():
    page = PAGE.read_text(encoding="ascii")
    options, words = help_words()
    if len(options) < 60 or len(words) < 12:
        yield "--help is not understood"
    for name in sorted(options):
        if not re.search(rf"^\.It Fl -{name}( |$)", page, flags=re.M) and f"Fl -{name} " not in page:
            yield f"the option --{name} is missing"
    for name in sorted(words):
        if not re.search(rf"\bCm {name}( |$)", page, flags=re.M):
            yield f"the command {name} is missing"
    for name in sorted(set(re.findall(r"Fl -([a-z-]+)", page)) - options):
        yield f"there is no option --{name}"


def warnings():
    if shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "warning", str(PAGE)]
    elif shutil.which("man") and shutil.which("groff"):
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", str(PAGE)]
    else:
        print("SKIP: neither mandoc nor man with groff is there to format the page")
        return
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, text=True,
                          env={**os.environ, "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
    told = done.stderr if command[0] == "man" else done.stdout + done.stderr
    yield from told.splitlines()
    if done.returncode:
        yield f"{command[0]} ended with {done.returncode}"
    elif command[0] == "man" and "intune-scepctl" not in done.stdout:
        yield "the page is formatted to nothing"


def main():
    found = [*missing(), *warnings()]
    print("\n".join(f"{PAGE.name}: {line}" for line in found) if found else "the manual page agrees with --help")
    return 1 if found else 0


sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""A file system of a few MiB in memory, which a test fills up."""
import errno
import os
import subprocess

import pytest

from . import pki, place


class SmallDisk:
    """Mounted at `directory`, which is made; belongs to the server's user."""

    def __init__(self, directory, mebibytes=16):
        if not place.IS_ROOT:
            pytest.skip("only root can mount a small file system")
        directory.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=700", "iscep-disk", directory],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            directory.rmdir()
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
        pki.for_server(directory, 0o700)
        self.directory = directory

    @property
    def ballast(self):
        return self.directory / "ballast"

    def free_bytes(self):
        facts = os.statvfs(self.directory)
        return facts.f_bavail * facts.f_frsize

    def fill(self):
        """To the last block. What is in it may be written over, but nothing grows."""
        with open(self.ballast, "ab", buffering=0) as file:
            block = 1 << 16
            while block >= 512:
                try:
                    file.write(b"\0" * block)
                except OSError as error:
                    assert error.errno == errno.ENOSPC, error
                    block //= 2

    def free(self):
        self.ballast.unlink(missing_ok=True)

    def unmount(self):
        """Also while files in it are still open somewhere."""
        subprocess.run(["umount", "-l", self.directory], check=True)
        self.directory.rmdir()

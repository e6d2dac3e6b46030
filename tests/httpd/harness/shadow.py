# SPDX-License-Identifier: Apache-2.0
"""What a directory would hold after a power cut: tests/sim/fsync_shadow.c, and how it becomes the directory again."""
import pathlib
import shutil
import tempfile

from . import pki, place


class Shadow:
    """Of the files in `directory`. Programs have it if they run in `environment`."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory).resolve()
        self.copy = pathlib.Path(tempfile.mkdtemp(prefix="iscep-shadow-", dir=place.quick_directory()))
        self.copy.chmod(0o777)

    @property
    def environment(self):
        # a sanitizer's library has to be the first
        preload = [place.sanitizer_environment().get("LD_PRELOAD", ""), str(place.need("tests/sim/fsync_shadow.so"))]
        return {"LD_PRELOAD": " ".join(preload).strip(), "ISCEP_SHADOW_FROM": str(self.directory),
                "ISCEP_SHADOW_TO": str(self.copy)}

    def files(self):
        return sorted(entry.name for entry in self.copy.iterdir() if not entry.name.startswith("."))

    def restore(self):
        """The directory has lost all that was not synced. Nobody may be at work in it."""
        for entry in self.directory.iterdir():
            entry.unlink()
        for name in self.files():
            mode = (self.copy / name).stat().st_mode & 0o777
            pki.for_server(shutil.copy(self.copy / name, self.directory / name), mode)

    def remove(self):
        shutil.rmtree(self.copy, ignore_errors=True)

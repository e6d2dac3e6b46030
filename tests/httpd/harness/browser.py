# SPDX-License-Identifier: Apache-2.0
"""Debian's Chromium without a screen."""
import os
import shutil
import subprocess
import tempfile

from . import place, status

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--hide-scrollbars")
WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = {"light": 1, "dark": 0}


def is_there():
    return shutil.which("chromium") is not None


def _run(url, *arguments):
    with tempfile.TemporaryDirectory(prefix="iscep-chromium-") as profile:
        environment = {**os.environ, "HOME": profile, "XDG_CONFIG_HOME": profile, "XDG_CACHE_HOME": profile}
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            environment.pop(name, None)
            environment.pop(name.upper(), None)
        done = subprocess.run(["chromium", *FLAGS, f"--user-data-dir={profile}/data", *arguments, url], capture_output=True,
                              timeout=120 * place.SLOWNESS, env=environment, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-2000:]
    return done.stdout.decode("utf-8", "replace")


def dump(url):
    """The DOM after the page was loaded, as HTML."""
    return _run(url, "--dump-dom")


def screenshots(url, name, height=None):
    """Takes NAME-WIDTH-SCHEME.png for each width and scheme; returns their paths."""
    made = []
    for width, pixels in WIDTHS.items():
        for scheme, number in SCHEMES.items():
            path = status.directory() / f"{name}-{width}-{scheme}.png"
            path.unlink(missing_ok=True)
            _run(url, f"--screenshot={path}", f"--window-size={pixels},{(height or {}).get(width, 1800)}",
                 f"--blink-settings=preferredColorScheme={number}")
            assert path.read_bytes().startswith(b"\x89PNG")
            made.append(path)
    return made

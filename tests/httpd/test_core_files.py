# SPDX-License-Identifier: Apache-2.0
"""
The RA's key is in the workers' memory: they leave no core file, though the server is told to make some, and their own user
cannot look into them. A server without the module shows that this machine would let it happen.
"""
import os
import resource
import signal
import subprocess

import pytest

from harness import pki, place, wait
from harness.httpd import Httpd

pytestmark = pytest.mark.skipif(place.SANITIZE, reason="LeakSanitizer traces the processes: there they stay open")


@pytest.fixture
def cores(scratch):
    """A directory for core files; servers that are started meanwhile may write some of any size."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, PermissionError):
        if before[1] == 0:
            pytest.skip("core files are forbidden (ulimit -Hc) and only root can allow them")
        resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    directory = scratch / "cores"
    directory.mkdir()
    pki.for_server(directory, 0o700)
    yield directory
    resource.setrlimit(resource.RLIMIT_CORE, before)


def ready_worker(server):
    """A worker that has begun to work: its threads are there, and what it does before them is done."""
    return wait.until(lambda: next((child for child in server.children()
                                    if len(os.listdir(f"/proc/{child}/task")) > server.threads), None),
                      "a worker with all its threads")


def abort_one(server):
    """A worker of the server crashes; what httpd's log says of it."""
    worker = ready_worker(server)
    server.expect_log(rf"child pid {worker} exit signal Abort")
    os.kill(worker, signal.SIGABRT)
    (line,) = server.wait_log(rf"child pid {worker} exit signal Abort")
    return line


def is_open_to_its_user(process):
    """Whether the server's user may read that process' memory map, and so anything in it."""
    user = {"user": place.SERVER_USER, "group": place.SERVER_USER, "extra_groups": []} if place.IS_ROOT else {}
    return subprocess.run(["cat", f"/proc/{process}/maps"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False, **user).returncode == 0


@pytest.fixture
def control(cores, fresh):
    """A server that makes core files, without the module."""
    server = Httpd("control", f'CoreDumpDirectory "{cores}"\n')
    server.start()
    yield server
    server.stop()


def test_a_crash_leaves_no_core_file(site, start_gateway, cores, control):
    if "possible coredump" not in abort_one(control):
        pytest.skip("the kernel makes no core files here: see /proc/sys/kernel/core_pattern")
    for path in cores.iterdir():
        path.unlink()
    gateway = start_gateway([site.profile("/scep")], before=f'CoreDumpDirectory "{cores}"\n')
    assert "possible coredump" not in abort_one(gateway)
    assert list(cores.iterdir()) == []


def test_its_own_user_cannot_look_into_a_worker(site, start_gateway, cores, control):
    assert is_open_to_its_user(ready_worker(control))
    gateway = start_gateway([site.profile("/scep")], before=f'CoreDumpDirectory "{cores}"\n')
    assert not is_open_to_its_user(ready_worker(gateway))


def test_switched_off_nothing_is_locked(site, start_gateway, cores):
    """Where no location is served, there is no key either."""
    gateway = start_gateway([site.profile("/scep", On="Off")], before=f'CoreDumpDirectory "{cores}"\n')
    assert is_open_to_its_user(ready_worker(gateway))

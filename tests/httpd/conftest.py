# SPDX-License-Identifier: Apache-2.0
"""
Fixtures of the tests on a real httpd. A test module that shares one gateway among its tests has a function
`profiles(site)` and, if need be, OPTIONS for the Gateway; its tests take the fixture `gateway`.
"""
import os
import pathlib
import re
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True

import pytest  # noqa: E402

from harness import authorities, crash, device, faults, journal, log, matrix, outside, pki, place, small_disk  # noqa: E402
from harness.gateway import Gateway, Site  # noqa: E402
from harness.microsoft import Microsoft  # noqa: E402
from harness.postgres import Postgres  # noqa: E402

pytest.register_assert_rewrite("harness.check")

FINAL = re.compile(rf"invariant \d is violated|{log.BAD_WORDS.pattern}")
failures = []


def pytest_collection_modifyitems(items):
    """Without the built module nothing can run: an error where a build was promised, else SKIP with the reason."""
    name = place.missing()
    if name is None:
        return
    reason = f"{name} is not built in {' or '.join(map(str, place.build_candidates()))}"
    if os.environ.get("ISCEP_BUILD"):
        pytest.exit(f"ISCEP_BUILD is set, but {reason}", returncode=3)
    for item in items:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """The test's outcome, for fixtures that tell of it."""
    report = (yield).get_result()
    if call.when == "call":
        item.call_report = report
    if report.failed:
        test = report.nodeid.partition("::")[2]
        failures.append((f"{item.path.relative_to(place.TREE)}::{test}", report.longreprtext))


def pytest_sessionfinish():
    """
    Leaves in the file ISCEP_AGAIN what may be tried once more on a machine that does nothing else. What no slowness excuses
    (a violated invariant, a crash, a sanitizer's finding) is followed by the word "final".
    """
    name = os.environ.get("ISCEP_AGAIN")
    if name:
        lines = {node + (" final" if FINAL.search(text) else "") for node, text in failures}
        pathlib.Path(name).write_text("".join(f"{line}\n" for line in sorted(lines)))


def open_directory(parent=None):
    """A temporary directory that the server's user can reach, other than pytest's own."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="iscep-test-", dir=parent))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def scratch():
    """A directory of the test's own."""
    directory = open_directory()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def quick_scratch():
    """The same for thousands of files."""
    directory = open_directory(place.quick_directory())
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def site():
    """Stand-ins for Microsoft and the CA, the PKI, and profiles made of them."""
    keys = open_directory()
    authority = pki.Authority(keys / "ca")
    ra = authority.issue("ra")
    tls = pki.server_certificate(keys / "tls")
    microsoft, ca = Microsoft(tls), authorities.ScriptedCA(authority, tls)
    made = Site(keys, microsoft, ca, authority, ra)
    made.device_key = keys / "device.key"
    pki.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", made.device_key)
    try:
        microsoft.start()
        ca.start()
        yield made
    finally:
        made.close()
        try:
            ca.stop()
        finally:
            microsoft.stop()


@pytest.fixture(autouse=True)
def fresh(site):
    """Each test finds stand-ins without faults and records, and leaves them alive."""
    site.reset()
    yield
    site.microsoft.check_log()
    site.ca.check_log()


@pytest.fixture(scope="module")
def module_gateway(site, request):
    gateway = Gateway(request.module.profiles(site), **getattr(request.module, "OPTIONS", {}))
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(module_gateway, fresh):
    """The module's gateway; what this test does not announce in its log fails it."""
    yield module_gateway
    # what this test leaves owed must not be reported in the next one
    journal.forget(module_gateway)
    module_gateway.check_log()


@pytest.fixture
def start_gateway(fresh):
    """Starts gateways of this test's own."""
    started = []

    def start(profiles, **options):
        if options.get("faults"):
            faults.need_build()
        gateway = Gateway(profiles, **options)
        started.append(gateway)
        return gateway.start()
    yield start
    for gateway in reversed(started):
        gateway.stop()


@pytest.fixture
def devices(site, scratch, quick_scratch):
    """Makes messages: devices(profile, count, challenge=True, own_key=False, **options of the device tool)."""
    def make(profile, count=1, challenge=True, own_key=False, **options):
        challenges = None
        if challenge is True:
            challenges = site.microsoft.challenges(profile.tenant, count)
        elif challenge:
            challenges = [challenge] * count
        if not own_key and "key" not in options:
            options["key"] = site.device_key
        return device.prepare(scratch if count < 200 else quick_scratch, profile, count, challenges, **options)
    return make


@pytest.fixture(scope="session")
def postgres_cluster():
    """PostgreSQL, made when the first test wants it."""
    if not Postgres.is_there():
        pytest.skip("PostgreSQL is missing: install Debian's package postgresql")
    directory = open_directory()
    server = Postgres(directory)
    yield server
    server.stop("immediate")
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def postgres(postgres_cluster):
    """A PostgreSQL that runs, whatever the test before did to it. `postgres.database()` makes a database."""
    if postgres_cluster.process is None:
        postgres_cluster.start()
    yield postgres_cluster
    postgres_cluster.go_on()


@pytest.fixture
def redis(scratch):
    if not outside.Redis.is_there():
        pytest.skip("redis-server is missing: install Debian's package of that name")
    server = outside.Redis(scratch).start()
    yield server
    server.stop()


@pytest.fixture
def disk(scratch):
    """A small file system for the server's user; fill() and free()."""
    made = small_disk.SmallDisk(scratch / "disk")
    yield made
    made.unmount()


@pytest.fixture(scope="session")
def scepserver(site):
    """Debian's scepserver, and a profile maker for it."""
    if not authorities.ScepServer.is_there():
        pytest.skip("scepserver is missing: install Debian's package scep")
    server = authorities.ScepServer(site.directory / "scepserver")
    server.ra = server.make_ra()
    server.start()
    yield server
    server.stop()


def pytest_terminal_summary(terminalreporter):
    matrix.summary(terminalreporter)
    crash.summary(terminalreporter)

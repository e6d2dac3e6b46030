# SPDX-License-Identifier: Apache-2.0
"""The journal of a gateway as an operator's eye sees it. What must hold is asserted from outside records; this only adds."""
import contextlib
import os
import pwd
import sqlite3

from . import place, wait


@contextlib.contextmanager
def _as_the_server():
    """
    SQLite makes files beside the database, and root's are the server's only a moment later: a process that opens them
    just then cannot. No other thread may be at work.
    """
    if not place.IS_ROOT:
        yield
        return
    user = pwd.getpwnam(place.SERVER_USER)
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def rows(gateway, transaction=None):
    """The rows of the SQLite journal, as dictionaries, oldest first."""
    with sqlite3.connect(f"file:{gateway.state / 'journal.sqlite'}?mode=ro", uri=True, timeout=5) as database:
        database.row_factory = sqlite3.Row
        found = [dict(row) for row in database.execute("SELECT * FROM iscep_journal ORDER BY created")]
    database.close()
    return [row for row in found if transaction in (None, row["txid"])]


def row(gateway, message):
    """The one row of a message's transaction."""
    (found,) = rows(gateway, message.transaction)
    return found


def wait_for(gateway, message, seconds=15, **columns):
    """Waits until the row has these values."""
    def fits():
        found = rows(gateway, message.transaction)
        return found and all(found[0][name] == value for name, value in columns.items()) and found[0]
    return wait.until(fits, lambda: f"{columns} in {rows(gateway, message.transaction)}", seconds)


@contextlib.contextmanager
def opened_for_change(gateway):
    """The SQLite journal; each statement is a transaction."""
    with _as_the_server():
        database = sqlite3.connect(gateway.state / "journal.sqlite", timeout=5, isolation_level=None)
        try:
            yield database
        finally:
            database.close()


def forget(gateway):
    """Takes all rows away, as soon as nobody is at one."""
    path = gateway.state / "journal.sqlite"
    if not path.exists():
        return
    now = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
    with opened_for_change(gateway) as database:
        def empty():
            database.execute(f"DELETE FROM iscep_journal WHERE lease_until <= {now}")
            return not database.execute("SELECT COUNT(*) FROM iscep_journal").fetchone()[0]
        wait.until(empty, "the end of all transactions", 20, step=0.1)


def change(gateway, statement, arguments=()):
    """One statement of somebody who knows what he does."""
    with opened_for_change(gateway) as database:
        database.execute(statement, arguments)


def make_older(gateway, seconds, message=None):
    """As if so much time had passed since each row, or a message's, was changed last."""
    change(gateway, "UPDATE iscep_journal SET created = created - ?1, updated = updated - ?1 WHERE ?2 IN (txid, '')",
           (seconds * 1000, message.transaction if message else ""))


def make_due(gateway, message):
    """As if the pause before the next try of a message's report were over, and for some seconds."""
    change(gateway, "UPDATE iscep_journal SET due = due - 100000 WHERE txid = ?", (message.transaction,))

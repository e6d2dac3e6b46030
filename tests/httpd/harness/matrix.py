# SPDX-License-Identifier: Apache-2.0
"""The matrix of devices and CAs: its cells, and the table at the end of a run."""
import dataclasses
import os

from . import place

LONG = os.environ.get("ISCEP_LONG", "") not in ("", "0")
HEAD = ("device", "CA", "message", "by", "cipher", "digest", "result")


@dataclasses.dataclass(frozen=True)
class Cell:
    """
    One device before one CA. `refused`: the stated reason why it must not enrol; "" where it must. `act`: what the
    client is told to do once it has a certificate.
    """
    device: str
    ca: str
    method: str
    cipher: str
    digest: str
    kind: str = "PKCSReq"
    path: str = ""
    act: str = ""
    refused: str = ""
    note: str = ""

    def __str__(self):
        parts = (self.device, self.ca, self.kind, self.method, self.cipher, self.digest, self.act, self.path)
        return "-".join(part for part in parts if part)


_rows = []


def record(cell, result, why=""):
    """Notes what came of a cell."""
    why = why or cell.note
    _rows.append((f"{cell.device} {cell.act}".strip(), cell.ca, cell.kind, cell.method, cell.cipher, cell.digest,
                  f"{result}: {why}" if why else result))


def _table():
    rows = [HEAD, *_rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    lines = ["  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[-1]]) for row in rows]
    counts = {}
    for row in _rows:
        word = row[-1].partition(":")[0]
        counts[word] = counts.get(word, 0) + 1
    return lines + ["", ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))]


def summary(terminal):
    """The table, in the terminal and in matrix.txt of the build."""
    if not _rows:
        return
    lines = _table()
    terminal.section("devices and CAs")
    for line in lines:
        terminal.write_line(line)
    (place.need("mod_intune_scep.so").parent / "matrix.txt").write_text("\n".join(lines) + "\n")

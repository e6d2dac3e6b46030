# SPDX-License-Identifier: Apache-2.0
"""Reading httpd's error log."""
import re

LINE = re.compile(r"^\[[^\]]+\] \[(?P<module>[\w-]*):(?P<level>\w+)\] (?P<rest>.*)$")
BAD_LEVELS = ("emerg", "alert", "crit", "error", "warn")
BAD_WORDS = re.compile(r"ERROR: AddressSanitizer|runtime error:|exit signal|Segmentation fault|ERROR: LeakSanitizer"
                       r"|^==\d+== (?:Invalid|Mismatched|Conditional jump|Use of uninit|Syscall param|Source and dest|Process term)")
# Of httpd itself, and not ours to judge; AH03093: a plain stop closes sockets under the workers that just answered;
# AH01882: Debian's httpd was built with a newer OpenSSL than the one that is installed.
# AH00484: a test's server is small, and this machine may be slow.
# ISCEP0100 sums up lines whose like the test had to announce: the first of them are at their own level.
HARMLESS = re.compile(r"AH03093|AH00558|AH02572|AH01909|AH01906|AH01873|AH01882|AH00484|ISCEP0100: ")


def is_bad(line):
    """Whether a line needs an explanation by the test."""
    if BAD_WORDS.search(line):
        return True
    match = LINE.match(line)
    return bool(match) and match["level"] in BAD_LEVELS and not HARMLESS.search(line)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Prints what Intune was told, from the stand-in's record on standard input, and holds the last successNotification
against a certificate:  told.py THUMBPRINT SERIAL
"""
import json
import sys

SHOWN = ("transactionId", "certificateThumbprint", "certificateSerialNumber", "certificateExpirationDateUtc",
         "issuingCertificateAuthority", "callerInfo")


def main():
    wanted = {"certificateThumbprint": sys.argv[1], "certificateSerialNumber": sys.argv[2]}
    told = None
    for call in json.load(sys.stdin)["calls"]:
        line = f"{call['service']:<10} HTTP {call['status']}"
        print("  " + line + (f"  {call['code']}" if call.get("code") else ""))
        if call["service"] == "success" and call.get("code") == "Success":
            body = call["body"]
            body = json.loads(body) if isinstance(body, str) else body
            told = body["notification"]
    if told is None:
        return "Intune has taken no successNotification"
    print("the successNotification:")
    for name in SHOWN:
        print(f"  {name:<30} {told.get(name)}")
    for name, value in wanted.items():
        if told.get(name) != value:
            return f"{name} is not the certificate's, which is {value}"
    return None


sys.exit(main())

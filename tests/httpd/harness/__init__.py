# SPDX-License-Identifier: Apache-2.0
"""What the tests on a real httpd stand on: servers, stand-ins, keys, devices."""

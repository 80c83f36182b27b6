"""Python reads this file at start-up where the folder is on PYTHONPATH: it refuses every host but this machine.

pytest-socket does the same in the tests' own processes. Those that tests start, such as a scheduler and its workers,
load no pytest plugin, and some run where pytest is not installed.
"""

import ipaddress
import socket
import sys


def _is_local(host):
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _refuse_other_hosts(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple) and not _is_local(args[1][0]):
        raise PermissionError(f"the tests may connect to this machine only, not to {args[1][0]!r}")
    if event == "socket.getaddrinfo" and not _is_local(args[0]):
        raise socket.gaierror(socket.EAI_NONAME, f"the tests may connect to this machine only, not to {args[0]!r}")


sys.addaudithook(_refuse_other_hosts)

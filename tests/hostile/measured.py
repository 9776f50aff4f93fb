"""A program that runs a command and tells, in a file, how much memory it took: a process counts its
parent's memory until it becomes another program, so the parent must be small. The command is killed
after a minute of processor time.

python -S measured.py FILE COMMAND…
"""

import os
import resource
import sys

SECONDS = 60


def main() -> int:
    told, command = sys.argv[1], sys.argv[2:]
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    with open(told, "w", encoding="ascii") as file:
        file.write(str(usage.ru_maxrss * 1024))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())

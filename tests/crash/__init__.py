"""The state of a store after a process is killed, after a power failure, and with many processes at
work.

`IMGFS_CRASH_ROUNDS=N` (default 1) multiplies the kills of real commands, the random states of a
disk and the steps of the workers by N. From 2 on, the states of a disk are examined after every
call. `scripts/crash [N]` runs the tests so.
"""

"""What is left when a process is killed, the power fails, or many work at once.

`IMGFS_CRASH_ROUNDS=N` (1 by default) makes everything here longer: N times as many kills of real
commands, states of a disk drawn at random, and steps of the workers. From 2 on a disk is looked at
after every single call. `scripts/crash [N]` runs them so.
"""

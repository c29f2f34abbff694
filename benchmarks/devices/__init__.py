"""Where `bench` measures: this machine, one that ssh reaches, a phone on adb.

Every device runs the same process (`runner.py`) and answers over a pipe; what differs is how the files get
there and how the pipe is laid.
"""

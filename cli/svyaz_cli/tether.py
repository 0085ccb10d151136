"""Ties a program to its starter: `python -I -S tether.py STARTER SIGNAL USER GROUP PROGRAM [ARGUMENT …]`.

The program gets the signal when its starter dies, by kill -9 too (on Linux), and runs as the user and group where these
aren't '-'. A program of its own because code between fork and exec isn't safe in a process with threads, and because
changing the user clears what prctl has set.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Becomes the program, or exits at once when the starter is gone already."""
    starter, signal, user, group, *program = sys.argv[1:]
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(starter):
        sys.exit("the starter died before its program was started")
    os.execvp(program[0], program)  # noqa: S606 - what is started is what the starter named


if __name__ == "__main__":
    main()

"""Ids: unique whoever makes them, and made without asking the kernel each time."""

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from chassis.types import new_id

# Prints what the parent, its child and the parent again give out, the child having what was drawn before the fork.
FORKED = """
import os, sys
from chassis.types import new_id
print(new_id(), flush=True)
child = os.fork()
if child:
    os.waitpid(child, 0)
print(*(new_id() for _ in range(20)), sep="\\n", flush=True)
if not child:
    os._exit(0)
"""


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = uuid.UUID(new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_threads_share_no_id() -> None:
    with ThreadPoolExecutor(4) as pool:
        many = [one for some in pool.map(lambda _: [new_id() for _ in range(2_000)], range(8)) for one in some]
    assert len(set(many)) == len(many)
    # Nor the random part, which is all that tells those of one millisecond apart.
    assert len({one[15:] for one in many}) == len(many)


def test_a_forked_process_shares_none_with_its_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True, timeout=60)
    made = [line[15:] for line in done.stdout.split()]
    assert len(made) == 41
    assert len(set(made)) == 41


def test_the_kernel_is_asked_for_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is, the interpreter goes to another thread."""
    asked = []
    draw = os.urandom

    def counted(size: int) -> bytes:
        asked.append(size)
        return draw(size)

    monkeypatch.setattr(os, "urandom", counted)
    for _ in range(2_000):
        new_id()
    assert 1 <= len(asked) <= 10

"""``python -m gsnn.serve.trial``: a broker to try things with, in memory, on this machine: librdkafka's mock cluster.

It prints its address, and lives until it is told to end or the one that started it has ended. It keeps 5 MB of each of
the four partitions of a topic, and does not hide what a transaction has undone: for trials and tests only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator

from ..errors import GsnnError
from .broker import client


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """Its address, for as long as the block lasts; a process of its own holds it."""
    words = [sys.executable, "-m", "gsnn.serve.trial"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if not (address := (process.stdout.readline() if process.stdout else "").strip()):
                raise GsnnError("no broker could be started; is confluent-kafka installed? pip install 'gsnn[alerts]'")
            yield address
        finally:
            process.kill()


def main() -> None:
    """Hold a broker: where the input is a pipe, until that is closed."""
    holder = client("Producer", "", {}, {"test.mock.num.brokers": 1})
    brokers = holder.list_topics(timeout=10).brokers.values()
    print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        sys.stdin.read()
    else:
        signal.pause()


if __name__ == "__main__":
    main()

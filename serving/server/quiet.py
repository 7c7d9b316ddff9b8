"""TensorFlow imported without its notices about this machine, which no user of a server can act on."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["import_quietly"]


def import_quietly(before_use: Callable[[], None] | None = None) -> None:
    """Import TensorFlow and let it look for devices; what it writes is shown only if that fails.

    Before its logger is set up it heeds no environment variable and writes past `sys.stderr`.

    Args:
        before_use: Called when it is imported but has not looked for devices: then it can be forked.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _held_back():
        import tensorflow as tf

        if before_use is not None:
            before_use()
        tf.compat.v1.Session(graph=tf.Graph()).close()
    tf.get_logger().setLevel("ERROR")


@contextmanager
def _held_back() -> Iterator[None]:
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)

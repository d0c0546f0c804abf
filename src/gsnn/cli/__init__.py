"""The command ``gsnn``, a verb each. Heavy modules are imported by the verb that needs them."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ..errors import GsnnError
from ..interrupt import keep_interrupts
from .shared import app

# isort: off
from . import study  # noqa: F401 (each adds its verbs, in the order in which help lists them)
from . import results  # noqa: F401
from . import surveys  # noqa: F401
from . import live  # noqa: F401
from . import machines  # noqa: F401
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; mistakes are told in a sentence on stderr, with exit status 1 (130 after Ctrl-C)."""
    os.environ.setdefault("LANCE_LOG", "error")
    keep_interrupts()
    sys.path.append(os.getcwd())  # a study may name "my_module:MyNetwork" of the folder where it is run
    try:
        app()
    except GsnnError as error:
        print(f"gsnn: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as stop:
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            _interrupted()  # typer has caught it and made an exit of it
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        print(f"gsnn: cannot use{where}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None


def _interrupted() -> NoReturn:
    print("\ngsnn: interrupted; type the same line again to go on from here", file=sys.stderr)
    raise SystemExit(130) from None

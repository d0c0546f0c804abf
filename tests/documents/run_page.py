"""Executes the blocks of one page in order, in one folder. Python blocks share one namespace.

A page, and each ``gsnn`` command in it, is a process of its own. All are forked from one server that has imported what
they need, because the imports of a command take several times as long as a small run.
"""

from __future__ import annotations

import linecache
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "torch._dynamo",
        "sklearn.ensemble",
        "sklearn.linear_model",
        "matplotlib.backends.backend_svg",
        "captum.attr",
        "scipy.stats",
        "pyarrow.parquet",
        "astropy.wcs",
        "gsnn.run",
        "gsnn.use",
        "gsnn.check",
        "gsnn.steps.train",
        "gsnn.report.page",
        "gsnn.cli",
    ]
)
SECONDS = 300


def forked(target: Callable[..., None], *args: object, out: Path) -> tuple[int, str]:
    """The exit status of ``target(*args)`` in a fresh process, and what it printed."""
    process = SERVER.Process(target=_quietly, args=(out, target, *args))
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return 124, f"it took more than {SECONDS} s\n{out.read_text()}"
    return process.exitcode, out.read_text()


def _quietly(out: Path, target: Callable[..., None], *args: object) -> None:
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*args)


def python(code: str, where: str, names: dict) -> None:
    linecache.cache[where] = (len(code), None, code.splitlines(keepends=True), where)
    exec(compile(code, where, "exec"), names)  # the pages are the project's own


def shell(code: str) -> None:
    """A block of simple ``gsnn`` lines is run line by line; anything else is bash's."""
    lines = [line for line in code.splitlines() if line.strip()]
    if not all(_simple(line) for line in lines):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
        return
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    for line in lines:
        if line.startswith("gsnn "):
            words = shlex.split(line, comments=True)
            status, said = forked(command, words, variables, str(Path.cwd()), out=Path(".said").absolute())
            if status:
                raise RuntimeError(f"{line}\nexit status {status}\n{said[-4000:]}")


def _simple(line: str) -> bool:
    """A ``gsnn`` command, or an assignment, without pipes, redirections, variables or lists."""
    tokens = list(shlex.shlex(line, posix=True, punctuation_chars=True))
    operators = [token for token in tokens if set(token) <= set("|&;<>()")]
    return not operators and "$" not in line and bool(re.match(r"gsnn |export \w+=\S*$", line))


def command(words: list[str], variables: dict[str, str], folder: str) -> None:
    """What ``gsnn ...`` does, with small runs."""
    import small_runs

    os.chdir(folder)
    sys.argv = words
    sys.path[:0] = [str(Path(path).absolute()) for path in variables.get("PYTHONPATH", "").split(":") if path]
    small_runs.main()


def toml(code: str) -> None:
    import tomllib

    from gsnn.study import Study

    table = tomllib.loads(code)
    if "question" in table:
        Study.from_dict(table)


def page(name: str, blocks: list[dict], folder: str) -> None:
    """Exits with 1, the page, the line of the block and what happened, at the first that fails."""
    import small_runs

    os.chdir(folder)
    os.environ["GSNN_SCRATCH"] = folder
    os.environ["PATH"] = f"{folder}/.bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    small_runs.everywhere()
    sys.path.insert(0, folder)
    names = {"__name__": "__page__"}
    for block in blocks:
        where = f"{name}:{block['line']}"
        try:
            if block["file"]:
                Path(block["file"]).write_text(block["code"])
            if block["language"] == "toml":
                toml(block["code"])
            elif block["language"] == "python":
                python(block["code"], where, names)
            else:
                shell(block["code"])
        except BaseException:
            traceback.print_exc()
            print(f"\n{where}: this {block['language']} block fails", file=sys.stderr, flush=True)
            sys.exit(1)

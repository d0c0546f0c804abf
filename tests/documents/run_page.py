"""Executes the blocks of one page in order, in the current folder. Python blocks share one namespace.

``python run_page.py PAGE BLOCKS.json``; a failure ends with the page, the line of the block and what happened.
"""

from __future__ import annotations

import json
import linecache
import subprocess
import sys
import traceback
from pathlib import Path


def python(code: str, where: str, names: dict) -> None:
    linecache.cache[where] = (len(code), None, code.splitlines(keepends=True), where)
    exec(compile(code, where, "exec"), names)  # the pages are the project's own


def shell(code: str) -> None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def toml(code: str) -> None:
    import tomllib

    from gsnn.study import Study

    table = tomllib.loads(code)
    if "question" in table:
        Study.from_dict(table)


def main(page: str, blocks: list[dict]) -> int:
    import small_runs

    small_runs.everywhere()
    sys.path.insert(0, str(Path.cwd()))
    names = {"__name__": "__page__"}
    for block in blocks:
        where = f"{page}:{block['line']}"
        try:
            if block["file"]:
                Path(block["file"]).parent.mkdir(parents=True, exist_ok=True)
                Path(block["file"]).write_text(block["code"])
            if block["language"] == "toml":
                toml(block["code"])
            elif block["language"] == "python":
                python(block["code"], where, names)
            else:
                shell(block["code"])
        except BaseException:
            traceback.print_exc()
            print(f"\n{where}: this {block['language']} block fails", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], json.loads(Path(sys.argv[2]).read_text())))

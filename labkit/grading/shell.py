"""What a notebook's cells find of IPython where answers are marked: cells run as IPython runs them, and a shell without words.

Statements run one after the other, each compiled for itself, with `await` outside functions and with the `__future__`
of the cells before. Where a statement fails, IPython leaves the rest of the cell; here what defines something still
runs, because what failed may be a call that only fails while answers are marked.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import shlex
import __future__
from pathlib import Path
from typing import Any

__all__ = ["Shell", "Silence"]

_DEFINING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.AugAssign)
_FUTURES = sum({getattr(__future__, name).compiler_flag for name in __future__.all_feature_names})


class Silence:
    """Whatever is asked of it, it says nothing."""

    def __getattr__(self, name: str) -> Silence:
        if name.startswith("__"):
            raise AttributeError(name)
        return Silence()

    def __call__(self, *arguments: Any, **options: Any) -> None:
        return None

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True

    def __iter__(self):
        return iter(())

    def __contains__(self, item: object) -> bool:
        return False

    def __getitem__(self, key: object) -> Silence:
        return Silence()


class Shell(Silence):
    """`get_ipython()`: runs cells, writes and runs files, and is silent about everything else.

    `user_ns` are the names that the cells share.
    """

    def __init__(self, user_ns: dict[str, Any]):
        self.user_ns = user_ns
        self._flags = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def run_source(self, source: str, path: str) -> None:
        """Run a cell that lies in a file. Raises what its first failing statement raised, after what defines something."""
        tree = compile(source, path, "exec", self._flags | ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        failure: Exception | None = None
        for statement in tree.body:
            if failure and not isinstance(statement, _DEFINING):
                continue
            try:
                code = compile(ast.Module([statement], []), path, "exec", self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                self._flags |= code.co_flags & _FUTURES
                if code.co_flags & inspect.CO_COROUTINE:
                    self._wait_for(eval(code, self.user_ns))
                else:
                    exec(code, self.user_ns)
            except Exception as error:
                failure = failure or error
        if failure:
            raise failure

    def _wait_for(self, coroutine: Any) -> None:
        loop, self._loop = self._loop or asyncio.new_event_loop(), None     # a loop that was left by force is not used again
        loop.run_until_complete(coroutine)
        self._loop = loop

    # --- what IPython makes of magic lines --------------------------------------------------------------------------

    def run_line_magic(self, name: str, line: str = "", *_: Any, **__: Any) -> None:
        if name == "run":
            path = Path((shlex.split(line) or [""])[0])
            path = path if path.suffix or not path.with_suffix(".py").is_file() else path.with_suffix(".py")
            exec(compile(path.read_text(encoding="utf-8-sig"), str(path), "exec", dont_inherit=True), self.user_ns)
        elif name in ("time", "prun"):
            self.run_cell(line)

    def run_cell_magic(self, name: str, line: str = "", cell: str = "", *_: Any, **__: Any) -> None:
        if name in ("writefile", "file"):
            words = shlex.split(line)
            path = Path(words[-1])
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a" if {"-a", "--append"} & set(words[:-1]) else "w", encoding="utf-8", errors="replace") as file:
                file.write(cell)
            importlib.invalidate_caches()
        elif name in ("time", "prun", "capture"):
            self.run_cell(cell)

    def magic(self, text: str) -> None:
        name, _, line = text.lstrip("%").partition(" ")
        self.run_line_magic(name, line)

    def run_cell(self, source: str, *_: Any, **__: Any) -> None:
        self.run_source(source, "<cell>")

    def ex(self, source: str) -> None:
        exec(source, self.user_ns)

    def ev(self, source: str) -> Any:
        return eval(source, self.user_ns)

    def getoutput(self, *_: Any, **__: Any) -> list[str]:
        return []

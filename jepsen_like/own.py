"""A workload of the user's own, from a Python file: `sullae simulate --workload my_workload.py`.

The file has a class with the methods of jepsen_like/workloads/__init__.py, and names it `WORKLOAD`:

    WORKLOAD = MyWorkload

It is read once per process. Other modules of this package are there to be imported; docs/reliability.md has
an example to begin with.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

from jepsen_like.workloads import Workload

SUFFIX = ".py"
NAME = "WORKLOAD"
METHODS = ("setup", "step", "probe", "final", "finished", "problems")


class OwnError(Exception):
    """The file is no workload; the text says why, and what would be one."""


def own_workload(path: str) -> Workload:
    """A new workload as the file has it; raises OwnError."""
    made = getattr(_module(path), NAME, None)
    if made is None:
        raise OwnError(f"{path} names no workload: add a line like `{NAME} = MyWorkload`")
    missing = [method for method in METHODS if not callable(getattr(made, method, None))]
    if missing:
        raise OwnError(f"{NAME} of {path} has no method {', '.join(missing)}")
    if not isinstance(getattr(made, "kinds", None), tuple):
        raise OwnError(
            f"{NAME} of {path} has no `kinds`: a tuple of the operations that must have worked once"
        )
    workload: Workload = made()
    return workload


@cache
def _module(path: str) -> ModuleType:
    file = Path(path)
    spec = importlib.util.spec_from_file_location(f"own_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise OwnError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise OwnError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return module

"""`sullae simulate`: whole clusters in virtual time, one line per seed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from cli.output import ANSWERED_NO_EXIT, Failure, print_json


def simulate(
    workload: str, seeds: Sequence[int], seconds: int, *, trace: bool, workers: int | None, as_json: bool
) -> int:
    """Run a workload over seeds; the exit status says whether all were green."""
    from jepsen_like.own import SUFFIX, OwnError, own_workload
    from jepsen_like.run import WORKLOADS
    from jepsen_like.simulate import simulate as run, verdicts

    if workload.endswith(SUFFIX):
        try:
            own_workload(workload)
        except OwnError as error:
            raise Failure(str(error), code="bad_workload") from None
    elif workload != "all" and workload not in WORKLOADS:
        known = ", ".join([*WORKLOADS, "all", "FILE.py"])
        raise Failure(f"no workload is named {workload}; there are {known}", code="no_such_workload")
    count = min(len(seeds), workers or os.cpu_count() or 1)
    if not as_json:
        green = run(workload, seeds, seconds, trace=trace, workers=count)
        return 0 if green else ANSWERED_NO_EXIT
    import msgspec

    names = list(WORKLOADS) if workload == "all" else [workload]
    began_s, green = time.monotonic(), True
    for verdict in verdicts([(seed, name, seconds, trace) for seed in seeds for name in names], count):
        green = green and verdict.green
        print_json({"green": verdict.green, **msgspec.to_builtins(verdict), "replay": verdict.replay()})
    print_json({"all_green": green, "seconds": round(time.monotonic() - began_s, 1)})
    return 0 if green else ANSWERED_NO_EXIT

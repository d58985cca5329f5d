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
    from jepsen_like.own import OwnError
    from jepsen_like.run import WORKLOADS
    from jepsen_like.simulate import names_of, simulate as run, verdicts

    try:
        names = names_of(workload)
    except OwnError as error:
        raise Failure(str(error), code="bad_workload") from None
    except KeyError:
        known = ", ".join([*WORKLOADS, "all", "FILE.py"])
        text = f"no workload is named {workload}; there are {known}, and each with +churn after it"
        raise Failure(text, code="no_such_workload") from None
    count = min(len(seeds), workers or os.cpu_count() or 1)
    if not as_json:
        green = run(workload, seeds, seconds, trace=trace, workers=count)
        return 0 if green else ANSWERED_NO_EXIT
    import msgspec

    began_s, green = time.monotonic(), True
    for verdict in verdicts([(seed, name, seconds, trace) for seed in seeds for name in names], count):
        green = green and verdict.green
        print_json({"green": verdict.green, **msgspec.to_builtins(verdict), "replay": verdict.replay()})
    print_json({"all_green": green, "seconds": round(time.monotonic() - began_s, 1)})
    return 0 if green else ANSWERED_NO_EXIT

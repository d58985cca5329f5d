"""How many inputs the fuzz tests try: a few in every run, as many as `make soak` says in a long one."""

from __future__ import annotations

import os

INPUTS = int(os.environ.get("SULLAE_FUZZ_INPUTS", "2000"))
SEED = int(os.environ.get("SULLAE_FUZZ_SEED", "7"))

"""Secrets of sinks, by reference: what is kept of a sink in the store names a secret and never is one.

    env:SULLAE_SINK_NAME   an environment variable of the peer that delivers; its name begins so
    file:NAME              a file of this name in the folder `sink_secrets` of cluster.yml

Both are read when a delivery begins, so a secret is changed by changing it on every peer and pausing and
resuming the sink. The two rules on names keep whoever may define a sink from having other variables and
files of a peer sent to a receiver of his own.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

SECRET_BYTES_MAX: Final = 64 * 1024
_ENVIRONMENT: Final = re.compile(r"env:(SULLAE_SINK_[A-Za-z0-9_]{1,100})")
_FILE: Final = re.compile(r"file:([A-Za-z0-9_-][A-Za-z0-9._-]{0,99})")
RULE: Final = (
    "a secret is given as env:SULLAE_SINK_NAME, an environment variable of every peer, or as file:NAME, a "
    "file in the folder `sink_secrets` of cluster.yml; it is never given itself"
)


class SecretError(OSError):
    """This peer does not have the secret."""


def reference_problem(text: str) -> str:
    """Why this does not name a secret; "" if it does, or names none."""
    good = not text or _ENVIRONMENT.fullmatch(text) or _FILE.fullmatch(text)
    return "" if good else RULE


def secret_of(reference: str, folder: Path | None) -> str:
    """The secret, "" if none is named; raises SecretError, which names the reference alone."""
    if not reference:
        return ""
    variable = _ENVIRONMENT.fullmatch(reference)
    if variable is not None:
        value = os.environ.get(variable[1], "")
        if not value:
            raise SecretError(f"this peer has no environment variable {variable[1]}")
        return value
    file = _FILE.fullmatch(reference)
    if file is None:
        raise SecretError(RULE)
    if folder is None:
        raise SecretError(f"{reference}: cluster.yml names no folder `sink_secrets`")
    try:
        with (folder / file[1]).open("rb") as opened:
            value = opened.read(SECRET_BYTES_MAX).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{reference}: {type(error).__name__}") from None
    if not value:
        raise SecretError(f"{reference} is empty")
    return value

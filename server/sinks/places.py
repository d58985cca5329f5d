"""URLs of sinks: where a webhook, a Kafka topic or an MQTT topic is.

    https://example.com/changes                 webhook
    kafka://broker1:9092,broker2:9092/topic     kafka, kafkas:// with TLS
    mqtt://broker:1883/some/topic               mqtt, mqtts:// with TLS

User and password never stand in a URL: what is in a URL is shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from server.sinks.webhook import URL_CHARS_MAX, url_problem

SCHEMES: Final = {"kafka": ("kafka", "kafkas"), "mqtt": ("mqtt", "mqtts")}
PORTS: Final = {"kafka": 9092, "kafkas": 9093, "mqtt": 1883, "mqtts": 8883}
TOPIC_CHARS_MAX: Final = 249
PRIVATE_ONLY: Final = (
    "brokers name the addresses to connect to, so they cannot be kept from private ones: sinks of this kind "
    "need `sink_private_addresses: true` in the settings of cluster.yml"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_KAFKA_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Broker:
    """Brokers (host, port), whether to speak TLS, and the topic."""

    hosts: tuple[tuple[str, int], ...]
    tls: bool
    topic: str


def place_problem(kind: str, url: str, private: bool) -> str:
    """Why a sink of this kind cannot deliver to this URL; "" if it can, or needs none."""
    if kind == "webhook":
        return url_problem(url, private) if url else "a webhook has a url"
    if kind not in SCHEMES:
        return "" if not url else f"files have no url; they are of kind {kind}"
    if not private:
        return PRIVATE_ONLY
    try:
        broker_of(kind, url)
    except ValueError as error:
        return str(error)
    return ""


def broker_of(kind: str, url: str) -> Broker:
    """What a URL says; raises ValueError with what would be right."""
    example = "kafka://broker1:9092,broker2:9092/topic" if kind == "kafka" else "mqtt://broker:1883/a/topic"
    wrong = ValueError(f"the url of a {kind} sink is as {example}, {SCHEMES[kind][1]}:// for TLS")
    parts = urlsplit(url)
    if len(url) > URL_CHARS_MAX or parts.scheme not in SCHEMES[kind] or parts.query or parts.fragment:
        raise wrong
    hosts = []
    for text in parts.netloc.split(","):
        host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
        host, port = (host, port) if colon else (text, str(PORTS[parts.scheme]))
        if (
            not _HOST.fullmatch(host)
            or not port.isascii()
            or not port.isdecimal()
            or not 0 < int(port) < 65536
        ):
            raise wrong
        hosts.append((host.strip("[]"), int(port)))
    topic = unquote(parts.path[1:])
    if kind == "kafka":
        good = _KAFKA_TOPIC.fullmatch(topic) is not None and topic not in (".", "..")
    else:
        good = 0 < len(topic) <= TOPIC_CHARS_MAX and len(hosts) == 1 and topic[0] != "$"
        good = good and not any(char in "+#" or char < " " for char in topic)
    if not good:
        raise wrong
    return Broker(tuple(hosts), parts.scheme in ("kafkas", "mqtts"), topic)

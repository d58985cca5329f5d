"""The part of the API's description that is about sinks."""

from __future__ import annotations

from typing import Any

from server.rest.openapi_parts import (
    BUCKET_NAME,
    TEXT,
    answer,
    content,
    options_of,
    parameter,
    problems,
    refs,
)
from server.sinks.envelopes import ENVELOPES
from server.sinks.kafka import MECHANISMS
from server.sinks.records import EVERY_S, KINDS
from server.sinks.secrets import RULE

_JSON = "application/json"

PARAMETERS = {"sink": parameter("sink", "path", "The sink's name.", BUCKET_NAME)}


def paths() -> dict[str, Any]:
    """What there is, by path."""
    one = content(_JSON, {"$ref": "#/components/schemas/Sink"})
    every = {"type": "object", "properties": {"sinks": {"type": "array", "items": one[_JSON]["schema"]}}}
    refused = ("bad-body", "bad-sink", "no-such-table", "changes-off")
    return {
        "/v1/sinks": {
            "get": {
                "operationId": "sinks",
                "summary": "What the cluster delivers by itself",
                "responses": {"200": answer("All sinks.", content(_JSON, every)), **problems("unavailable")},
            }
        },
        "/v1/sinks/{sink}": {
            "parameters": refs("sink"),
            "get": {
                "operationId": "sink",
                "summary": "One sink: what it is, whose, and how far",
                "responses": {"200": answer("The sink.", one), **problems("no-such-sink", "unavailable")},
            },
            "put": {
                "operationId": "put_sink",
                "summary": "Have there be a sink, or pause or change it",
                "description": "Events are delivered at least once: who counts drops ids it has seen.",
                "requestBody": {"content": content(_JSON, {"$ref": "#/components/schemas/SinkWanted"})},
                "responses": {
                    "200": answer("It was there.", one),
                    "201": answer("It is new.", one),
                    **problems(*refused, "unavailable"),
                },
            },
            "delete": {
                "operationId": "delete_sink",
                "summary": "End a sink; what it delivered stays",
                "responses": {"204": answer("It is no more."), **problems("no-such-sink", "unavailable")},
            },
        },
    }


def schemas() -> dict[str, Any]:
    """What bodies look like."""
    integer, boolean = {"type": "integer"}, {"type": "boolean"}
    settings = {
        "table": TEXT,
        "kind": {"type": "string", "enum": list(KINDS)},
        "from": {"type": "string", "description": "now, start, snapshot (all rows first), a time, or 10m."},
        "every_s": {"type": "number", "default": EVERY_S, "description": "How much time a batch is about."},
        "url": {
            "type": "string",
            "description": "https://..., kafka://broker1:9092,broker2:9092/topic, mqtt://broker/a/topic; "
            "kafkas and mqtts with TLS.",
        },
        "user": {"type": "string", "description": "Whom to be at a broker."},
        "secret": {"type": "string", "description": RULE[0].upper() + RULE[1:] + "."},
        "mechanism": {"type": "string", "enum": list(MECHANISMS), "description": "Of Kafka, for a user."},
        "envelope": {"type": "string", "enum": list(ENVELOPES), "default": ENVELOPES[0]},
        "paused": boolean,
    }
    told = {
        "name": TEXT,
        "owner": {"type": "string", "description": "The peer that delivers now."},
        "fence": integer,
        "cursor": TEXT,
        "sequence": integer,
        "delivered": integer,
        "refused": integer,
        "gaps": integer,
        "delivered_at": TEXT,
        "lag_s": {"type": ["number", "null"], "description": "How far behind the stream it is."},
        "declared": {"type": "boolean", "description": "Whether cluster.yml declares it."},
        "error": TEXT,
    }
    return {
        "SinkWanted": options_of(settings),
        "Sink": {"type": "object", "properties": {**settings, **told}},
    }

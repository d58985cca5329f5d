"""`cqlengine`, the object mapper that comes with the drivers: models, their tables, queries, batches."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from cassandra.cqlengine import ValidationError, columns, connection
from cassandra.cqlengine.functions import MaxTimeUUID, MinTimeUUID, Token
from cassandra.cqlengine.management import (
    create_keyspace_simple,
    drop_keyspace,
    drop_table,
    sync_table,
    sync_type,
)
from cassandra.cqlengine.models import Model
from cassandra.cqlengine.query import BatchQuery, DoesNotExist, LWTException
from cassandra.cqlengine.usertype import UserType

from tests.clients.suite.fixtures import KEYSPACE, connected

NAME = f"{KEYSPACE}_models"


class Place(UserType):  # type: ignore[misc]
    street = columns.Text()
    number = columns.Integer()


class Film(Model):  # type: ignore[misc]
    __keyspace__ = NAME
    studio = columns.Text(partition_key=True)
    year = columns.Integer(primary_key=True, clustering_order="DESC")
    id = columns.UUID(primary_key=True, default=uuid.uuid4)
    title = columns.Text(required=True, index=True)
    price = columns.Decimal()
    rating = columns.Double()
    seen = columns.DateTime()
    day = columns.Date()
    tags = columns.Set(columns.Text)
    cast_of = columns.List(columns.Text)
    roles = columns.Map(columns.Text, columns.Integer)
    about = columns.Text(static=True)
    where = columns.UserDefinedType(Place)


class Hits(Model):  # type: ignore[misc]
    __keyspace__ = NAME
    k = columns.Integer(primary_key=True)
    n = columns.Counter()


class Event(Model):  # type: ignore[misc]
    __keyspace__ = NAME
    k = columns.Integer(primary_key=True)
    at = columns.TimeUUID(primary_key=True)


@pytest.fixture(scope="module", autouse=True)
def models() -> Iterator[None]:
    with connected() as session:  # of its own, because the mapper closes it
        connection.register_connection("ours", session=session, default=True)
        create_keyspace_simple(NAME, replication_factor=3)
        for model in (Film, Hits, Event):
            sync_table(model)
        yield
        drop_keyspace(NAME)
        connection.unregister_connection("ours")


def film(**values: Any) -> Any:
    return Film.create(**{"studio": "강", "year": 2020, "title": "one", **values})


def check_models_are_made_found_changed_and_removed() -> None:
    made = film(
        price=Decimal("1.10"), rating=0.5, seen=datetime.datetime(2024, 1, 2), day=datetime.date(2024, 1, 2),  # noqa: DTZ001
        tags={"a"}, cast_of=["x", "y"], roles={"r": 1}, about="shared", where=Place(street="s", number=1),
    )  # fmt: skip
    found = Film.objects(studio="강", year=2020).first()
    assert (found.title, found.price, found.tags, found.cast_of, found.roles) == (
        "one", Decimal("1.10"), {"a"}, ["x", "y"], {"r": 1},
    )  # fmt: skip
    assert (found.seen, found.where.number, found.about) == (made.seen, 1, "shared")
    found.update(title="two", tags={"a", "b"}, cast_of=["x", "y", "z"])
    Film.objects(studio="강", year=2020, id=made.id).update(roles__update={"s": 2}, tags__remove={"a"},
                                                            cast_of__prepend=["0"])  # fmt: skip
    again = Film.get(studio="강", year=2020, id=made.id)
    assert (again.title, again.tags, again.cast_of, again.roles) == ("two", {"b"}, ["0", "x", "y", "z"],
                                                                     {"r": 1, "s": 2})  # fmt: skip
    again.delete()
    with pytest.raises(DoesNotExist):
        Film.get(studio="강", year=2020, id=made.id)


def check_queries() -> None:
    for year in range(2000, 2010):
        film(studio="q", year=year, title=f"t{year % 3}")
    films = Film.objects(studio="q")
    assert films.count() == 10
    assert [each.year for each in films.filter(year__gte=2005)] == [2009, 2008, 2007, 2006, 2005]
    assert [each.year for each in films.order_by("year", "-id").limit(2)] == [2000, 2001]
    assert list(films.filter(year__in=[2001, 2003]).values_list("year", flat=True)) == [2003, 2001]
    assert len(list(films.filter(title="t1").allow_filtering())) == 3
    assert sorted(each.year for each in Film.objects(title="t1")) == [2002, 2005, 2008], "by an index"
    assert {each.studio for each in Film.objects.distinct(["studio"])} >= {"q"}
    token = Film.objects(pk__token__gt=Token("nothing before"))
    assert isinstance(list(token), list)
    assert [page.year for page in films.fetch_size(3)] == list(range(2009, 1999, -1))


def check_conditions_ttl_and_timestamps() -> None:
    key = {"studio": "lwt", "year": 1, "id": uuid.uuid4()}
    made = Film.if_not_exists().create(**key, title="first")
    with pytest.raises(LWTException) as raised:
        Film.if_not_exists().create(**key, title="second")
    assert raised.value.existing["title"] == "first"
    made.iff(title="first").update(title="third")
    with pytest.raises(LWTException):
        Film.objects(**key).iff(title="first").update(title="fourth")
    Film.objects(**key).if_exists().update(title="fifth")
    Film.objects(**key).ttl(1000).update(rating=1.0)
    stamp = datetime.timedelta(seconds=-30)
    Film.objects(**key).timestamp(stamp).update(title="too old")
    assert Film.get(**key).title == "fifth"


def check_batches_counters_and_times() -> None:
    with BatchQuery() as batch:
        for year in (1, 2):
            Film.batch(batch).create(studio="b", year=year, title="batch")
    assert Film.objects(studio="b").count() == 2
    counter = Hits(k=1)
    counter.n += 5
    counter.save()
    counter.n -= 2
    counter.save()
    assert Hits.get(k=1).n == 3
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    Event.create(k=1, at=uuid.uuid1())
    hour = datetime.timedelta(hours=1)
    between = Event.objects(k=1, at__gt=MinTimeUUID(now - hour), at__lt=MaxTimeUUID(now + hour))
    assert between.count() == 1
    assert Event.objects(k=1, at__gt=MinTimeUUID(now + hour)).count() == 0
    with pytest.raises(ValidationError):
        Film.create(studio="b", year="no year", title="x")


def check_tables_follow_their_models() -> None:
    class Growing(Model):  # type: ignore[misc]
        __table_name__ = "growing"
        __keyspace__ = NAME
        __options__ = {"comment": "ours", "gc_grace_seconds": 1234}  # noqa: RUF012 - as the mapper has it
        k = columns.Integer(primary_key=True)
        a = columns.Text()

    class Grown(Growing):
        __table_name__ = "growing"
        __keyspace__ = NAME
        b = columns.List(columns.Integer)
        d = columns.Duration() if hasattr(columns, "Duration") else columns.Text()

    sync_table(Growing)
    sync_table(Growing)
    sync_type(NAME, Place)
    Growing.create(k=1, a="x")
    sync_table(Grown)
    Grown.objects(k=1).update(b=[1, 2])
    assert Grown.get(k=1).b == [1, 2]
    table = connection.get_cluster().metadata.keyspaces[NAME].tables["growing"]
    assert (table.options["comment"], table.options["gc_grace_seconds"]) == ("ours", 1234)
    drop_table(Grown)
    assert "growing" not in connection.get_cluster().metadata.keyspaces[NAME].tables

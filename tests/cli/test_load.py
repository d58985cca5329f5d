"""A load ends with every record where it belongs, whatever happened on the way, and says what it left out."""

from __future__ import annotations

import dataclasses
import gzip
import json
import socket
import threading
from pathlib import Path

import pytest

from cli import load
from cli.bulk import Place
from cli.load import Job, Loader, Tally
from cli.output import Failure
from tests.cli.fake import FakeCluster

ROWS = 3_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "rows.ndjson.gz"
    lines = [json.dumps({"id": f"k{n}", "n": n}) for n in range(ROWS)]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return file


def job(file: Path, **more: str) -> Job:
    state, rejects = load.default_state(file), load.default_rejects(file)
    return Job(file, Place("rows"), state=state, rejects=rejects, **more)


def run(cluster: FakeCluster, job: Job, patience_s: float = 10.0) -> Tally:
    return Loader([cluster.url], job, lambda tally: None, patience_s=patience_s).run()


def stored(cluster: FakeCluster) -> dict[str, int]:
    return {key: json.loads(value)["n"] for key, (value, _) in cluster.buckets.get("rows", {}).items()}


def test_everything_arrives_and_nothing_is_left_behind(cluster: FakeCluster, file: Path) -> None:
    tally = run(cluster, job(file))
    assert (tally.read, tally.loaded, tally.rejected) == (ROWS, ROWS, 0)
    assert stored(cluster) == {f"k{n}": n for n in range(ROWS)}
    assert {content_type for _, content_type in cluster.buckets["rows"].values()} == {"application/json"}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_of_two_records_with_one_key_the_later_wins(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(json.dumps({"id": f"k{n % 7}", "n": n}) + "\n" for n in range(500)))
    run(cluster, job(file))
    assert stored(cluster) == {f"k{n % 7}": n for n in range(493, 500)}


def test_what_fails_for_now_is_sent_again(cluster: FakeCluster, file: Path) -> None:
    cluster.fault = lambda number: {2: 503, 4: 504, 5: -1, 7: 429}.get(number, 0)
    assert run(cluster, job(file)).loaded == ROWS
    assert len(stored(cluster)) == ROWS


def test_a_load_that_failed_goes_on_where_it_stopped(
    cluster: FakeCluster, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "WORKERS", 1)  # of several one may not have begun when it fails
    cluster.fault = lambda number: 503 if number > 8 else 0
    with pytest.raises(Failure, match="no write has succeeded"):
        run(cluster, job(file), patience_s=0.2)
    there = len(stored(cluster))
    assert 0 < there < ROWS
    cluster.fault = lambda number: 0
    tally = run(cluster, job(file))
    assert stored(cluster) == {f"k{n}": n for n in range(ROWS)}
    assert 1 < tally.resumed_at_line <= there + 1
    assert tally.read == ROWS - tally.resumed_at_line + 1
    assert not load.default_state(file).exists()


def test_a_load_that_failed_says_what_each_peer_said(cluster: FakeCluster, file: Path) -> None:
    cluster.fault = lambda number: 503
    with socket.create_server(("127.0.0.1", 0)) as taken:
        away = f"http://127.0.0.1:{taken.getsockname()[1]}"
    loader = Loader([cluster.url, away], job(file), lambda tally: None, patience_s=1.5)
    with pytest.raises(Failure, match="no write has succeeded") as failure:
        loader.run()
    assert f"{away}: connection refused" in failure.value.text
    assert "as asked by the test" in failure.value.text


def test_a_load_that_was_stopped_goes_on(cluster: FakeCluster, file: Path) -> None:
    stopped = threading.Event()

    def stop_early(tally: Tally) -> None:
        if tally.read > ROWS // 3:
            loader.stop()
            stopped.set()

    loader = Loader([cluster.url], job(file), stop_early)
    with pytest.raises(Failure, match="stopped"):
        loader.run()
    assert stopped.is_set() and len(stored(cluster)) < ROWS
    run(cluster, job(file))
    assert len(stored(cluster)) == ROWS


def test_a_load_that_was_stopped_before_its_first_record_forgets_none(
    cluster: FakeCluster, file: Path
) -> None:
    cluster.fault = lambda number: 503 if number > 2 else 0
    with pytest.raises(Failure):
        run(cluster, job(file), patience_s=0.05)
    before = load.read_state(load.default_state(file))
    stopped = Loader([cluster.url], job(file), lambda tally: None)
    stopped.stop()
    with pytest.raises(Failure, match="stopped"):
        stopped.run()
    assert load.read_state(load.default_state(file)) == before
    cluster.fault = lambda number: 0
    run(cluster, job(file))
    assert len(stored(cluster)) == ROWS


def test_rejects_that_cannot_be_kept_end_the_load(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(json.dumps({"id": f"k{n}", "n": n}) + "\n" for n in range(ROWS)))
    cluster.refused_keys = frozenset(f"k{n}" for n in range(0, ROWS, 10))
    nowhere = dataclasses.replace(job(file), rejects=tmp_path / "nowhere" / "rejects")
    with pytest.raises(Failure, match="nowhere/rejects: No such file") as caught:
        run(cluster, nowhere)
    assert "--rejects" in caught.value.hint


def test_a_reject_that_was_cut_short_comes_again(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text("nonsense\n" * 3)
    rejects = load.default_rejects(file)
    rejects.write_bytes(b'{"line": 1, "reason": "x", "text": ""}\n{"line": 2, "rea')
    load.keep_rejects_before(rejects, 2)
    assert [json.loads(line)["line"] for line in rejects.read_text().splitlines()] == [1]


def test_a_changed_file_is_not_gone_on_with(cluster: FakeCluster, file: Path) -> None:
    cluster.fault = lambda number: 503
    with pytest.raises(Failure):
        run(cluster, job(file), patience_s=0.05)
    file.write_bytes(gzip.compress(b'{"id":"another","n":1}'))
    with pytest.raises(Failure, match="of another load") as caught:
        run(cluster, job(file))
    assert "--restart" in caught.value.hint


def test_a_state_file_that_is_none_is_refused(cluster: FakeCluster, file: Path) -> None:
    load.default_state(file).write_text('{"version": 99}')
    with pytest.raises(Failure, match="no state of a load"):
        run(cluster, job(file))


def test_rejects_are_kept_with_their_reasons(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_text('{"id":"a","n":1}\nnonsense\n{"id":"no","n":2}\n{"n":3}\n')
    cluster.refused_keys = frozenset(["no"])
    tally = run(cluster, job(file))
    assert (tally.loaded, tally.rejected) == (1, 3)
    rejects = {r["line"]: r for r in map(json.loads, load.default_rejects(file).read_text().splitlines())}
    assert sorted(rejects) == [2, 3, 4]
    assert rejects[3]["reason"] == "this key is refused (400)" and rejects[3]["text"] == '{"id":"no","n":2}'
    assert stored(cluster) == {"a": 1}


def test_rejects_are_not_told_twice_after_going_on(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    lines = ["nonsense" if n % 100 == 50 else json.dumps({"id": f"k{n}", "n": n}) for n in range(ROWS)]
    file.write_text("\n".join(lines))
    cluster.fault = lambda number: 503 if number > 6 else 0
    with pytest.raises(Failure):
        run(cluster, job(file), patience_s=0.05)
    cluster.fault = lambda number: 0
    run(cluster, job(file))
    found = [json.loads(line)["line"] for line in load.default_rejects(file).read_text().splitlines()]
    assert sorted(found) == list(range(51, ROWS + 1, 100))


def test_a_refused_bucket_ends_the_load_at_once(cluster: FakeCluster, file: Path) -> None:
    cluster.fault = lambda number: 403
    with pytest.raises(Failure, match="as asked by the test"):
        run(cluster, job(file))


def test_a_dry_run_sends_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id,n\n1,2\n2\n")
    tally, rejects = load.dry_run(job(file, kind="csv"), lambda tally: None)
    assert (tally.read, tally.loaded, tally.rejected) == (2, 1, 1)
    assert [reject.line for reject in rejects] == [3]
    assert cluster.bulk_requests == 0


def test_documents_go_into_a_collection(cluster: FakeCluster, file: Path) -> None:
    place = Place("rows", documents=True)
    job = Job(file, place, state=load.default_state(file), rejects=load.default_rejects(file))
    assert str(place) == "collection rows" and run(cluster, job).loaded == ROWS
    assert len(cluster.buckets["docs.rows"]) == ROWS and "rows" not in cluster.buckets
    cluster.fault = lambda number: 403
    with pytest.raises(Failure):
        run(cluster, job)
    with pytest.raises(Failure, match="of another load"):
        run(cluster, Job(file, Place("rows"), state=job.state, rejects=job.rejects))

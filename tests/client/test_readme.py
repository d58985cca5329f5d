"""The README's examples run as they stand, against a real cluster."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

README = Path(__file__).resolve().parents[2] / "client" / "README.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_there_are_examples_of_everything() -> None:
    told = "".join(EXAMPLES)
    for name in ("kv(", "collection(", "search(", "cql(", "bulk(", "to_arrow(", "admin.", "connect_sync("):
        assert name in told
    assert "session(" in told and "group=" in told


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{n}" for n in range(1, len(EXAMPLES) + 1)])
def test_an_example_runs(example: str, urls: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "import pyarrow" in example:
        pytest.importorskip("pyarrow")
    text = re.sub(r'"http://127\.0\.0\.1:8080(,[^"]*)?"', f'"{urls}"', example)
    assert urls in text
    program = tmp_path / "example.py"
    program.write_text(text)
    runpy.run_path(str(program), run_name="__main__")
    assert capsys.readouterr().out.strip() or "OutcomeUnknown" in example

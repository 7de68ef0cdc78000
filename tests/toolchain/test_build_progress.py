"""How far indexes are, from the deployment's answers to what people read."""

from __future__ import annotations

from cvx.protocol.push import ComponentSchemaStatus, IndexProgress, SchemaInProgress
from cvx.toolchain.dev.build_progress import BuildProgress
from cvx.toolchain.progress import Step, duration_text


class _Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def status(*building: IndexProgress, ready: int = 0, checked: tuple[int, int] = (0, 0)) -> SchemaInProgress:
    one = ComponentSchemaStatus(
        schema_validation_complete=False,
        indexes_complete=ready,
        indexes_total=2,
        building=list(building),
        documents_checked=checked[0],
        documents_to_check=checked[1],
    )
    return SchemaInProgress(components={"": one})


def index(name: str, done: int, total: int) -> IndexProgress:
    return IndexProgress(table="many", index=name, documents_done=done, documents_total=total)


def test_documents_rate_and_time_left() -> None:
    clock = _Seconds()
    progress = BuildProgress("push", clock)
    first = progress.step(status(index("by_a", 100, 10_000), index("by_b", 0, 10_000)))
    assert first == Step(
        "push", 100, 20_000, "documents (0/2 indexes ready; at work: many.by_a, many.by_b)"
    )  # fmt: skip
    clock.now = 2.0
    second = progress.step(status(index("by_a", 4_100, 10_000), index("by_b", 4_000, 10_000)))
    assert (second.done, second.total) == (8_100, 20_000)
    assert second.detail.startswith("documents, 4,000/s, 3 s left (0/2 indexes ready")


def test_what_is_ready_stays_counted() -> None:
    progress = BuildProgress("push")
    progress.step(status(index("by_a", 9_000, 10_000), index("by_b", 1_000, 10_000), checked=(5, 50)))
    later = progress.step(status(index("by_b", 2_000, 10_000), ready=1))
    assert (later.done, later.total) == (12_050, 20_050)
    assert "(1/2 indexes ready; at work: many.by_b)" in later.detail


def test_a_deployment_that_counts_whole_indexes_only() -> None:
    found = BuildProgress("push").step(status(ready=1))
    assert (found.done, found.total) == (None, None) and "1/2 indexes ready" in found.detail


def test_times() -> None:
    assert [duration_text(s) for s in (0.2, 59, 125, 3_780)] == ["1 s", "59 s", "2 min 5 s", "1 h 3 min"]

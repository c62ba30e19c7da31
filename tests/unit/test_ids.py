import time
import uuid

from services.gateway.ids import keyed_id, new_id


def test_new_ids_are_version_7_and_carry_the_time_they_were_made() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= made.int >> 80 <= after


def test_new_ids_differ_and_sort_by_time() -> None:
    made = [new_id() for _ in range(5000)]
    assert len(set(made)) == len(made)
    times = [uuid.UUID(one).int >> 64 for one in made]
    assert times == sorted(times)


def test_a_key_gives_the_same_id_to_the_same_caller_only() -> None:
    assert keyed_id("ana", "k1") == keyed_id("ana", "k1")
    assert len({keyed_id("ana", "k1"), keyed_id("ana", "k2"), keyed_id("eva", "k1"), keyed_id("a", "na:k1")}) == 4
    assert uuid.UUID(keyed_id("ana", "k1")).version == 5

"""Mutants of valid inputs, for fuzzing. They depend only on the random generator: the same seed, the same mutants."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

DEEPEST = 40
"""Most levels that a mutant adds: more than the 32 that the gateway accepts."""
LONGEST = 600
"""Most characters of a text that a mutant adds: more than the 500 of a doctor's reason."""

ODD_TIMES = (
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59",
    "2026-02-30T00:00:00Z",
    "2026-11-30T24:00:00",
    "1764000000",
)
ODD_VALUES: Sequence[Any] = (
    *(None, True, False, 0, -1, 1, -0.0, 0.1, 1e308, -1e308, 5e-324, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30),
    *(
        float("nan"),
        float("inf"),
        "",
        " ",
        "0",
        "nan",
        "inf",
        "-1",
        "null",
        "\0",
        "\ud800",
        "\u202e",
        "\ufeff",
        "a\r\nb: c",
    ),
    *ODD_TIMES,
    *("' OR 1=1 --", "../../etc/passwd", "<script>", "=1+1", "%00", "${PATH}", "http://127.0.0.1:1/", "x" * LONGEST),
    *([], {}, [[]], {"": None}, [1, "a", None]),
)
_ODD_BYTES: Sequence[bytes] = (
    *(b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\r\n", b'"', b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]"),
    *(b",", b":", b";", b"=", b"@", b"%", b"%00", b"%2e", b"/", b"?", b"#", b"&", b"!!", b"*", b"|", b"- ", b"NaN"),
    *(b"Infinity", b"-1", b"1e999", b"0x10", b"9" * 25, b"true", b"null", b"a" * LONGEST, b"[" * DEEPEST),
)


def mutated_bytes(rng: random.Random, examples: Sequence[bytes]) -> bytes:
    """Return one of `examples` after one to four changes of its bytes."""
    content = bytearray(rng.choice(examples))
    for _ in range(rng.randint(1, 4)):
        rng.choice(_BYTE_CHANGES)(rng, content, examples)
    return bytes(content)


def mutated_text(rng: random.Random, examples: Sequence[str]) -> str:
    """Return one of `examples` after one to four changes; every text of Unicode may be a part of it."""
    return mutated_bytes(rng, [example.encode() for example in examples]).decode(errors="surrogateescape")


def mutated_value(rng: random.Random, examples: Sequence[T]) -> T:
    """Return one of `examples`, values of JSON, after one to three changes of its tree."""
    holder = [copy.deepcopy(rng.choice(examples))]
    for _ in range(rng.randint(1, 3)):
        places = _places(holder)
        place, key = rng.choice(places)
        rng.choice(_TREE_CHANGES)(rng, place, key, places)
        if not holder:  # the whole value was removed
            holder.append(rng.choice(ODD_VALUES))
    return holder[0]


def mutated_json(rng: random.Random, examples: Sequence[bytes]) -> bytes:
    """Return one of `examples`, JSON texts, after changes of its tree, and at times of its bytes."""
    tree = mutated_value(rng, [json.loads(example) for example in examples])
    content = dumped(tree)
    return mutated_bytes(rng, [content]) if rng.random() < 0.1 else content


def dumped(tree: object) -> bytes:
    """Return `tree` as JSON; NaN, infinity, large integers and surrogates included, which some writers send."""
    return json.dumps(tree, separators=(",", ":")).encode()


Place = tuple[Any, Any]
"""A list or object, and an index or name in it."""


def _places(tree: object) -> list[Place]:
    """Return every place in `tree`."""
    if not isinstance(tree, dict | list):
        return []
    children = list(tree.items() if isinstance(tree, dict) else enumerate(tree))
    return [(tree, key) for key, _ in children] + [place for _, child in children for place in _places(child)]


def _replace(rng: random.Random, place: Any, key: Any, _: Sequence[Place]) -> None:  # noqa: ANN401 - JSON
    value = place[key]
    like: Sequence[Any] = ODD_TIMES if isinstance(value, str) and value[:4].isdecimal() and "T" in value else ODD_VALUES
    place[key] = copy.deepcopy(rng.choice(like))


def _remove(_: random.Random, place: Any, key: Any, __: Sequence[Place]) -> None:  # noqa: ANN401 - JSON
    del place[key]


def _copy_over(rng: random.Random, place: Any, key: Any, places: Sequence[Place]) -> None:  # noqa: ANN401 - JSON
    """Put a value from elsewhere here."""
    other, other_key = rng.choice(places)
    place[key] = copy.deepcopy(other[other_key])


def _add(rng: random.Random, place: Any, key: Any, places: Sequence[Place]) -> None:  # noqa: ANN401 - JSON
    """Add a value beside this one, under an odd or a known name."""
    value = copy.deepcopy(rng.choice(ODD_VALUES))
    if isinstance(place, list):
        place.insert(key, value)
        return
    names = [str(name) for _, name in places] + ["", "\0", "__proto__", "id", "x" * LONGEST]
    place[rng.choice(names)] = value


def _nest(rng: random.Random, place: Any, key: Any, _: Sequence[Place]) -> None:  # noqa: ANN401 - JSON
    as_list = rng.random() < 0.5
    for _level in range(rng.choice((1, 2, DEEPEST))):
        place[key] = [place[key]] if as_list else {"a": place[key]}


def _as_text(_: random.Random, place: Any, key: Any, __: Sequence[Place]) -> None:  # noqa: ANN401 - JSON
    place[key] = json.dumps(place[key])[:LONGEST]


_TREE_CHANGES: Sequence[Callable[[random.Random, Any, Any, Sequence[Place]], None]] = (
    *(_replace, _replace, _replace, _remove, _copy_over, _add, _nest, _as_text),
)


def _slice(rng: random.Random, content: bytearray) -> slice:
    start = rng.randint(0, len(content))
    return slice(start, start + rng.choice((1, 1, 2, 4, 16, 64)))


def _flip(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[rng.randint(0, len(content)) :]


def _delete(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    del content[_slice(rng, content)]


def _insert(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    place = rng.randint(0, len(content))
    content[place:place] = rng.choice(_ODD_BYTES)


def _overwrite(rng: random.Random, content: bytearray, _: Sequence[bytes]) -> None:
    content[_slice(rng, content)] = rng.choice(_ODD_BYTES)


def _splice(rng: random.Random, content: bytearray, examples: Sequence[bytes]) -> None:
    other = rng.choice(examples)
    content[_slice(rng, content)] = other[_slice(rng, bytearray(other))]


_BYTE_CHANGES: Sequence[Callable[[random.Random, bytearray, Sequence[bytes]], None]] = (
    *(_flip, _flip, _cut, _delete, _insert, _insert, _overwrite, _splice),
)

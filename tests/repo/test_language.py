"""The wording of documentation, comments and docstrings: phrases that CONTRIBUTING.md rules out ("Language")."""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COVERED = (
    "*.md",
    "deploy",
    "findings",
    "shared",
    "services",
    "training",
    "bench",
    "chaos",
    "tests",
    ".github",
    "Makefile",
    ".env.example",
    "pyproject.toml",
)
"""Paths to check, as arguments of `git ls-files`."""

EXEMPT = ("docs/guides/doctor.md", "docs/benchmarks/", "docs/proof/", "deploy/k8s/schemas/")
"""Spanish; written by programs in bench/ and chaos/; words of other projects."""

BANNED = re.compile(
    r"""
    \b(
        who(so)?ever | who\ (asks?|says?|gave|gives|comes?\ in) | (is|are|was|were|been|be)\ (told|asked)
        | (gave|gives?|giving|given)\ up | overt(ak|ook)\w* | ballast | the\ doors?
        | (same|own)\ door | shel(f|ves)
        | court | keepers? | (laid|lays?)\ (anew|down) | every(body|one)\ (else|up)
        | who\ may\ come\ in
        | keeps?\ (its|their)\ word | anew | (says?|said)\ (so|why|which|what|how)
    )\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


def covered() -> list[str]:
    listed = subprocess.run(["git", "ls-files", *COVERED], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.splitlines() if listed.returncode == 0 else list(unpacked())
    texts = (".md", ".py", ".yml", ".yaml", ".toml", ".cfg", ".sh", ".conf", "Makefile", ".env.example")
    scripts = re.compile(r"deploy/[\w-]+$")
    return [path for path in names if not path.startswith(EXEMPT) and (path.endswith(texts) or scripts.match(path))]


def unpacked() -> Iterator[str]:
    """Yield the paths of COVERED in a source archive, which has no git to list them."""
    for top in (*COVERED, "docs", "data"):
        for path in ROOT.glob(top):
            yield from (str(each.relative_to(ROOT)) for each in [path, *path.rglob("*")] if each.is_file())


def prose(path: str, text: str) -> list[str]:
    """Return the prose of `path` as `line: text`: Markdown without code; otherwise comments and docstrings."""
    if path.endswith(".py"):
        return [_without_code(line) for line in _comments_and_docstrings(text)]
    if path.endswith(".md"):
        text = re.sub(r"```.*?```", lambda code: "\n" * code[0].count("\n"), text, flags=re.DOTALL)
        text = re.sub(r"<!--.*?-->", "", text)
    numbered = enumerate(text.splitlines(), 1)
    whole = path.endswith((".md", "Makefile"))
    return [_without_code(f"{number}: {line}") for number, line in numbered if whole or "#" in line]


def _without_code(line: str) -> str:
    return re.sub(r"`[^`]*`", "", line)


def _comments_and_docstrings(text: str) -> list[str]:
    lines = []
    before = tokenize.NEWLINE
    skipped = (tokenize.NL, tokenize.COMMENT, tokenize.ENCODING)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        starts_statement = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and starts_statement):
            numbered = enumerate(token.string.splitlines(), token.start[0])
            lines += [f"{number}: {line.strip()}" for number, line in numbered]
        before = before if token.type in skipped else token.type
    return lines


@pytest.mark.parametrize("path", covered())
def test_no_banned_phrase_is_used(path: str) -> None:
    lines = prose(path, (ROOT / path).read_text())
    assert [line for line in lines if BANNED.search(line)] == []


def test_banned_phrases_are_found_in_prose_and_not_in_code() -> None:
    python = 'shelf = 1  # on the shelf\n"""Whoever reads."""\nword = "ballast"\n'
    assert prose("x.py", python) == ["1: # on the shelf", '2: """Whoever reads."""']
    assert prose("x.md", "a `shelf` b\n```\nshelf\n```\n") == ["1: a  b", "2: ", "3: ", "4: "]
    assert BANNED.search("it may overtake its prediction")

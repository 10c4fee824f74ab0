"""Imports only go down: the floors of the package, read from the source, not by running it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "icebreaker"
FLOORS = {
    "errors": 0, "config": 0.5, "extras": 0.5, "streaming": 0.5,
    "audio": 1, "nn": 1, "text": 1, "duplex": 1,
    "models": 2,
    "dialogue": 3, "data": 3,
    "checkpoints": 4, "engine": 4,
    "training": 5, "server": 5, "talking": 5, "client": 5.2,
    "evaluation": 5.5, "cluster": 5.6,
    "cli_target": 5.7, "cli_talk": 5.7, "cli_eval": 5.8, "cli_serve": 5.8, "cli_bench": 5.9, "cli": 6, "__main__": 7,
}  # fmt: skip
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name != "__init__.py")


def floor(module: str) -> float:
    return FLOORS[module.removeprefix("icebreaker.").split(".")[0]]


def imports(path: Path) -> list[tuple[ast.stmt, str, bool]]:
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node, alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import absolutely"
            found.append((node, node.module or "", id(node) in top))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for node, name, _ in imports(path):
        if name.startswith("icebreaker."):
            other = name.split(".")[1]
            assert floor(name) < FLOORS[own] or other == own, f"{path}:{node.lineno} imports upward: {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_stand_at_the_top(path: Path) -> None:
    if path.name.startswith("cli") or path.name == "__main__.py":
        return
    late = [node.lineno for node, _, is_top in imports(path) if not is_top]
    assert not late, f"{path}: late imports on lines {late}"

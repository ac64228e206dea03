"""No part takes more than five others: what belongs together is given as one (a context, a listener)."""

import ast
from pathlib import Path

import puppetmaster

MOST = 5


def test_no_constructor_takes_more_than_five() -> None:
    taken = {}
    for file in Path(puppetmaster.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                given = node.args
                taken[f"{file}:{node.lineno}"] = len([*given.args[1:], *given.kwonlyargs])
    assert len(taken) > 40
    assert [where for where, number in taken.items() if number > MOST] == []

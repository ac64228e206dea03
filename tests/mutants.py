"""Mutants: small faults that are put into the product, one at a time, to see whether a test tells of them.

    make mutants SEED=7 COUNT=30 ONLY=bus
    python -m tests.mutants --seed 7 --count 30 --only bus --only http

draws 30 of a group, and runs for each the tests that can tell (``GROUPS``; those of the module itself first,
up to the first failure) on a copy of the tree. What survived is printed as diffs, and at the end the rate of
each group. It is no part of CI: a mutant takes between two seconds and two minutes.

A survivor shows that a test is missing, or it means the same as before. Tests that fail without a mutant too
are named and left out.
"""

import argparse
import ast
import copy
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
#: What the tests of a copy need.
TREE = ["puppetmaster", "tests", "sandbox", "schema", "docs", "data", "benchmarks", "index.py", "mkdocs.yml"]
TREE += ["bundle.json", "pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "requirements.txt"]
#: One mutant's tests take no longer than this: a mutant that never ends is killed by that.
TIMEOUT_S = 150
#: All others take a second to load.
PLUGINS = ("-p", "no:cacheprovider", "-p", "pytest_timeout", "--timeout=60")


class Group(NamedTuple):
    """Modules that belong together, and the tests that can tell of a fault in them, the quick ones first.

    Before them comes a module's own: ``tests/unit/<wing>/test_<module>*.py``. What only tests of the whole in
    motion would notice (``tests/system``) is to be seen without most of them.
    """

    modules: str
    tests: str


GROUPS: Mapping[str, Group] = {
    "engine": Group(
        "engine/engine engine/lifecycle engine/delivery engine/state engine/background engine/in_flight "
        "engine/absent engine/backoff engine/corrections engine/steps "
        "engine/presence engine/registry engine/context model/gateway model/selector model/job model/request "
        "model/policy model/reply model/cron model/maintenance model/template engine/templates timers",
        "unit/model unit/engine unit/bus/test_client.py contract/test_store.py "
        "contract/test_gateways_stored.py contract/test_templates_stored.py",
    ),
    "scheduling": Group(
        "scheduling/scheduler scheduling/locks scheduling/fairness scheduling/window scheduling/owners",
        "unit/scheduling unit/engine sandbox/test_simulator.py",
    ),
    "store": Group(
        "store/base store/memory store/datadir store/transfer store/sqlite/store store/sqlite/reader "
        "store/sqlite/migrations store/sqlite/rows store/sqlite/documents store/opening "
        "store/postgres/connection store/postgres/rows store/postgres/reader store/postgres/store "
        "store/postgres/turns store/postgres/lead store/postgres/schema store/postgres/transfer",
        "unit/store contract/test_store.py contract/test_gateways_stored.py contract/test_retention.py "
        "unit/engine/test_drafts.py unit/api system/test_disk.py",
    ),
    "bus": Group(
        "bus/client bus/connection bus/packets bus/credentials bus/publisher bundle/envelope bundle/requests "
        "bundle/registration bundle/runtime jsoncodec model/message",
        "unit/bus unit/bundle unit/model/test_reply.py unit/test_jsoncodec.py unit/test_events.py "
        "system/test_logins.py",
    ),
    "http": Group(
        "api/operations api/service api/gateways api/gateway_bodies api/bodies api/fields api/kinds "
        "api/query api/results api/pages model/spec events http/resources http/security http/server "
        "http/protocols http/websockets http/metrics http/app",
        "unit/api unit/model/test_spec.py unit/test_events.py unit/http contract/test_openapi.py "
        "system/test_controls.py",
    ),
}


COMPARISONS: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: Mapping[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NAMES: Mapping[str, str] = {"min": "max", "max": "min", "any": "all", "all": "any"}
#: Calls of these only tell somebody; and what is no behaviour.
TELLING = ("log.", "_logger.", "logging.", "warnings.")


class Mutant(NamedTuple):
    """One module with one fault in it."""

    group: str
    module: str
    source: str
    mutated: str

    @property
    def diff(self) -> str:
        """The fault, as a diff."""
        name = f"puppetmaster/{self.module}.py"
        before, after = (text.splitlines(keepends=True) for text in (self.source, self.mutated))
        return "".join(difflib.unified_diff(before, after, name, name, n=2))

    def tests(self, root: Path) -> list[str]:
        """The files and folders of tests that can tell, in the order in which they are run."""
        wing, _, name = self.module.rpartition("/")
        folder = root / "tests" / "unit" / wing.partition("/")[0]
        own = [file.relative_to(root).as_posix() for file in sorted(folder.glob(f"test_{name}*.py"))]
        files = dict.fromkeys([*own, *(f"tests/{one}" for one in GROUPS[self.group].tests.split())])
        return [file for file in files if (root / file).exists()]


def expressions(node: ast.expr) -> Iterator[ast.expr]:
    """What may stand in the place of an expression, each with one fault."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        changed = copy.deepcopy(node)
        changed.ops = [COMPARISONS[type(node.ops[0])]()]
        yield changed
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
        yield from (
            ast.BoolOp(node.op, [one for one in node.values if one is not left]) for left in node.values
        )
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _text(node.left, node.right):
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
        yield ast.Call(ast.Name(NAMES[node.func.id]), node.args, node.keywords)


def statements(node: ast.stmt) -> Iterator[ast.stmt]:
    """What may stand in the place of a statement."""
    if _can_be_left_out(node):
        yield ast.Pass()
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(ast.Constant(None))


def _can_be_left_out(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call | ast.Await)
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Delete)


def conditions(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """A condition, and what may stand in its place."""
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
        yield node.test, ast.Constant(False)
        if not isinstance(node, ast.While):
            yield node.test, ast.Constant(True)


def _text(*nodes: ast.expr) -> bool:
    return any(isinstance(one, ast.JoinedStr | ast.List) or _is_word(one) for one in nodes)


def _is_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def behaviour(node: ast.AST) -> Iterator[ast.AST]:
    """All that does something: no types, no words, no figures with a name, nothing for the log alone."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            named = isinstance(node, ast.Module) and isinstance(child, ast.Assign)
            if isinstance(child, ast.AST) and not named and not _is_talk(child):
                yield from behaviour(child)


def _is_talk(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        call = ast.unparse(node.value)
        return call.startswith(TELLING) or isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom)


def mutants(group: str, module: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    raw = source.encode()

    def with_fault(old: ast.expr | ast.stmt, new: ast.AST) -> Mutant:
        assert old.end_lineno is not None
        assert old.end_col_offset is not None
        begin = starts[old.lineno - 1] + old.col_offset
        end = starts[old.end_lineno - 1] + old.end_col_offset
        text = ast.unparse(ast.fix_missing_locations(new))
        text = f"({text})" if isinstance(new, ast.expr) and not isinstance(new, ast.Constant) else text
        return Mutant(group, module, source, (raw[:begin] + text.encode() + raw[end:]).decode())

    for node in behaviour(ast.parse(source)):
        for old, condition in conditions(node):
            yield with_fault(old, condition)
        if isinstance(node, ast.expr):
            yield from (with_fault(node, new) for new in expressions(node))
        elif isinstance(node, ast.stmt):
            yield from (with_fault(node, new) for new in statements(node))


def draw(seed: int, count: int, only: Sequence[str] = ()) -> list[Mutant]:
    """``count`` mutants of each group, or of these; the larger a module, the more of it."""
    drawn: list[Mutant] = []
    for group, parts in GROUPS.items():
        if only and group not in only:
            continue
        every = [
            mutant
            for module in parts.modules.split()
            for mutant in mutants(group, module, (ROOT / f"puppetmaster/{module}.py").read_text())
        ]
        drawn += random.Random(f"{seed} {group}").sample(every, min(count, len(every)))
    return drawn


class Trial:
    """Runs tests on a tree, with a mutant in it or without."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._broken: set[str] = set()  # tests that fail without a mutant too

    def killer(self, mutant: Mutant) -> str | None:
        """The first test that tells of a mutant; None: it survives."""
        file = self._tree / f"puppetmaster/{mutant.module}.py"
        times = file.stat()
        file.write_text(mutant.mutated)
        told = self._failures(mutant.tests(self._tree), "-x")
        file.write_text(mutant.source)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # what was compiled of it counts again
        return told[0] if told else None

    def broken(self, killers: Iterable[str | None]) -> set[str]:
        """Which of these tests fail without a mutant too; they are left out from now on."""
        tests = sorted({one for one in killers if one is not None and "::" in one})
        fail = set(self._failures(tests)) if tests else set()
        self._broken |= fail
        return fail

    def _failures(self, tests: Sequence[str], *options: str) -> list[str]:
        """Run these tests: those that fail, or what went wrong with all of them."""
        without = (f"--deselect={test}" for test in self._broken)
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", *PLUGINS, *options, *without, *tests],
            cwd=self._tree,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running:
            try:
                said, _ = running.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                return [f"no end within {TIMEOUT_S} s"]
        if running.returncode == 0:
            return []
        told = [line for line in said.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))]
        return [line.partition(" ")[2].partition(" - ")[0] for line in told] or [said.strip()[-300:]]


def copied(directory: Path) -> Path:
    """A copy of all that the tests need."""
    for name in TREE:
        source = ROOT / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "*.db*", ".lock")
            shutil.copytree(source, directory / name, ignore=skipped)
        elif source.exists():
            shutil.copy(source, directory / name)
    return directory


def main() -> int:
    """Draw, run, and say what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="which sample is drawn")
    parser.add_argument("--count", type=int, default=20, help="mutants of each group")
    parser.add_argument("--only", action="append", choices=GROUPS, help="this group; may be given again")
    asked = parser.parse_args()
    left = draw(asked.seed, asked.count, asked.only or ())
    count = Counter(mutant.group for mutant in left)
    survivors = Counter[str]()
    with TemporaryDirectory(prefix="mutants-") as name:
        trial = Trial(copied(Path(name)))
        while left:
            killers: dict[Mutant, str | None] = {}
            for mutant in left:
                told = killers[mutant] = trial.killer(mutant)
                survivors[mutant.group] += told is None
                say(f"{mutant.group} {mutant.module}: {told or 'SURVIVED'}")
                if told is None:
                    say(mutant.diff)
            broken = trial.broken(killers.values())
            for test in sorted(broken):
                say(f"fails without a mutant too: {test}")
            left = [mutant for mutant, told in killers.items() if told in broken]
    for group, all_ in count.items():
        dead = all_ - survivors[group]
        say(f"{group}: {dead} of {all_} killed, {dead / all_:.0%}")
    return int(any(survivors.values()))


def say(text: str) -> None:
    """Print it at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""The actions of examples/stdlib_audit, called as plain functions in the order of its workflow.

That an interrupted and resumed run of the workflow ends with the same two files is tested with the engine;
here stands what makes it possible: the reports depend on nothing but the audited files.
"""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "examples" / "stdlib_audit"
MODULES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture(scope="module", autouse=True)
def _modules_are_importable():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in MODULES:
        sys.modules.pop(name, None)


def action(name):
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)


def run_in_sequence(output_dir, **listing):
    """Do what workflow.yaml says, one step after the other, passing values on as JSON like the engine."""

    def call(name, **parameters):
        return json.loads(json.dumps(action(name)(**parameters)))

    listed = call("audit_listing:list_files", **listing)
    root = listed["about"]["root"]
    batches = [call("audit_parsing:parse_batch", root=root, paths=paths) for paths in listed["batches"]]
    imports = call("audit_imports:import_graph", batches=batches)
    findings = {
        "about": listed["about"],
        "totals": call("audit_analysis:count_totals", batches=batches),
        "longest": call("audit_analysis:longest_functions", batches=batches),
        "nesting": call("audit_analysis:deepest_nesting", batches=batches),
        "docstrings": call("audit_analysis:missing_docstrings", batches=batches),
        "imports": imports["summary"],
        "cycles": call("audit_imports:import_cycles", graph=imports["graph"]),
    }
    written = call("audit_report:write_report", findings=findings, output_dir=str(output_dir))
    return batches, findings, written


def facts_of(tmp_path, source, path="module.py"):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return action("audit_parsing:parse_file")(tmp_path, path)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return run_in_sequence(tmp_path_factory.mktemp("audit"), limit=30)


# The workflow file


def test_every_step_names_an_action_that_takes_its_parameters():
    document = yaml.safe_load((FOLDER / "workflow.yaml").read_text(encoding="utf-8"))
    assert all("default" in declared for declared in document["parameters"].values())
    for step in document["steps"]:
        inspect.signature(action(step["call"])).bind(**step["with"])


def test_modules_shadow_nothing_and_run_on_the_oldest_python_of_a_worker():
    assert not set(MODULES) & sys.stdlib_module_names
    for name in MODULES:
        ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 9))


# The whole of it, on a sample of the standard library


def test_a_sample_of_the_standard_library_gives_both_reports(sample):
    batches, findings, written = sample
    assert [len(batch) for batch in batches] == [3] * 10
    assert findings["about"]["files_found"] > 500
    assert findings["totals"]["files"] == 30
    assert findings["totals"]["lines"] == sum(facts["lines"] for batch in batches for facts in batch) > 1000
    assert json.loads(Path(written["json"]).read_text(encoding="utf-8")) == findings
    html = Path(written["html"]).read_text(encoding="utf-8")
    assert all(row["name"] in html for row in findings["longest"]["library"]["top"])


def test_the_result_of_a_parse_task_is_small_enough_for_a_row(sample):
    assert max(len(json.dumps(batch)) for batch in sample[0]) < 64 * 1024


def test_the_same_files_give_the_same_bytes_in_another_process(sample, tmp_path):
    findings = tmp_path / "findings.json"
    findings.write_text(json.dumps(sample[1]), encoding="utf-8")
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from audit_report import write_report;"
        "write_report(json.load(open(sys.argv[2], encoding='utf-8')), sys.argv[3])"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(FOLDER), str(findings), str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        check=True,
    )
    for form in ("html", "json"):
        assert (tmp_path / f"report.{form}").read_bytes() == Path(sample[2][form]).read_bytes()


class Reader(HTMLParser):
    """Checks that elements are closed in order and notes what would be fetched."""

    VOID = frozenset({"meta", "link", "rect", "line", "path", "polygon", "circle"})

    def __init__(self):
        super().__init__()
        self.open = []
        self.seen = set()
        self.links = []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        assert tag in self.VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_fetches_nothing(sample):
    html = Path(sample[2]["html"]).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert "svg" in reader.seen
    assert "script" not in reader.seen
    assert all(link == "data:," or link.startswith("#") for link in reader.links)
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(re.findall(r'id="(\w+)"', html))
    assert "url(" not in html
    assert "@import" not in html


def test_a_folder_with_nothing_to_report_still_gives_a_page(tmp_path):
    (tmp_path / "empty.py").touch()
    _, findings, written = run_in_sequence(tmp_path / "out", root=str(tmp_path))
    assert findings["totals"]["files"] == 1
    assert findings["longest"]["library"]["max"] == 0
    assert "Every file is valid" in Path(written["html"]).read_text(encoding="utf-8")


def test_names_and_faults_are_escaped(tmp_path):
    (tmp_path / "a&b.py").write_text("<script>", encoding="utf-8")
    _, _, written = run_in_sequence(tmp_path / "out", root=str(tmp_path))
    html = Path(written["html"]).read_text(encoding="utf-8")
    assert "a&amp;b.py" in html
    assert "a&b.py" not in html


# Listing


def test_caches_packages_hidden_folders_and_test_data_are_left_out(tmp_path):
    for path in (
        "b.py",
        "a/c.py",
        "a/data/kept.py",
        "a/tests/t.py",
        "a/tests/data/py2.py",
        "site-packages/x.py",
        "__pycache__/y.py",
        ".git/z.py",
        "a/notes.txt",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "broken.py").symlink_to(tmp_path / "nowhere.py")
    listed = action("audit_listing:list_files")(str(tmp_path), batch_size=3)
    assert listed["batches"] == [["a/c.py", "a/data/kept.py", "a/tests/t.py"], ["b.py"]]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"limit": -1}, "limit is -1"),
        ({"root": "/nowhere/at/all"}, "root is '/nowhere/at/all'"),
    ],
)
def test_a_wrong_parameter_of_the_listing_is_named(parameters, named):
    with pytest.raises((ValueError, NotADirectoryError), match=re.escape(named)):
        action("audit_listing:list_files")(**parameters)


@given(st.integers(1, 200), st.integers(0, 250))
def test_a_limit_spreads_over_the_folder(size, limit):
    paths = [f"{number:03}.py" for number in range(size)]
    taken = action("audit_listing:spread")(paths, limit)
    assert len(taken) == (min(limit, size) if limit else size)
    assert taken == sorted(set(taken))


# Parsing


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (b"print 'two'\n", "SyntaxError"),
        (b"if x:\nreturn\n", "IndentationError"),
        (b"# coding: no-such-coding\n", "SyntaxError"),
        (b"x = '\xff'\n", "SyntaxError"),
        (b"x = " + b"(" * 5000 + b")" * 5000, None),
        (b"x = 1\0", None),
    ],
)
def test_a_file_that_does_not_parse_is_a_fact(tmp_path, source, kind):
    facts = facts_of(tmp_path, source)
    assert facts["error"]
    assert kind in (None, facts["error"]["kind"])
    assert (facts["functions"], facts["bytes"]) == (0, len(source))


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        ("pass", 0),
        ("if a:\n  pass", 1),
        ("if a:\n  pass\nelif b:\n  pass\nelif c:\n  pass\nelse:\n  pass", 1),
        ("if a:\n  pass\nelse:\n  if b:\n    pass", 2),
        ("for a in b:\n  while c:\n    with d:\n      pass", 3),
        ("try:\n  pass\nexcept E:\n  if a:\n    pass\nfinally:\n  pass", 2),
        ("match a:\n  case 1:\n    if b:\n      pass", 2),
        ("def inner():\n  if a:\n    if b:\n      pass", 0),
        ("x = [a for a in b if a for c in d]", 0),
    ],
)
def test_nesting_counts_levels_of_control_flow(body, depth):
    function = ast.parse("def f():\n" + "\n".join("  " + line for line in body.splitlines())).body[0]
    assert action("audit_parsing:flow_depth")(function) == depth


def test_lengths_run_from_def_to_the_last_line(tmp_path):
    facts = facts_of(
        tmp_path, "@decorated\ndef f():\n    return (\n        1\n    )\n\n\nasync def g(): pass\n"
    )
    assert facts["longest"] == [["f", 2, 4], ["g", 8, 1]]
    assert facts["lengths"] == [[1, 1], [4, 1]]


def test_docstrings_are_asked_of_what_is_public_only(tmp_path):
    facts = facts_of(
        tmp_path,
        '''"""About it."""
class Shown:
    def __init__(self): pass
    def method(self): return 1
    def told(self): "says"
    @property
    def value(self): "says"
    @value.setter
    def value(self, new): pass
    def _hidden(self): pass
class _Hidden:
    def method(self): pass
def outer():
    """ """
    def inner(): pass
''',
    )
    assert facts["public"] == {"class": 1, "function": 4, "module": 1}
    assert facts["documented"] == {"function": 2, "module": 1}
    assert facts["undocumented"] == [["outer", 13, 3], ["Shown.method", 4, 1]]


def test_imports_are_told_apart_by_when_they_happen(tmp_path):
    facts = facts_of(
        tmp_path,
        """import os.path, sys
from . import sibling
from ..up import *
from .... import beyond
try:
    import fast
except ImportError:
    import slow
if TYPE_CHECKING:
    import only_types
else:
    import real
class C:
    import inside_class
def f():
    import later
if __name__ == "__main__":
    import script
if 0:
    import dead
""",
        "top/pkg/module.py",
    )
    assert facts["imports"] == {
        "load": ["fast", "inside_class", "os.path", "real", "slow", "sys", "top.pkg:sibling", "top.up"],
        "deferred": ["later", "script"],
        "never": ["dead", "only_types"],
    }


@pytest.mark.parametrize(
    ("path", "module", "tests"),
    [
        ("os.py", "os", False),
        ("json/__init__.py", "json", False),
        ("json/decoder.py", "json.decoder", False),
        ("__init__.py", "__init__", False),
        ("unittest/test/test_case.py", "unittest.test.test_case", True),
        ("idlelib/idle_test/htest.py", "idlelib.idle_test.htest", True),
        ("doctest.py", "doctest", False),
    ],
)
def test_paths_tell_the_module_and_whether_it_is_a_test(path, module, tests):
    assert action("audit_modules:module_name")(path) == module
    assert action("audit_modules:is_test_path")(path) is tests


# Analysis


def test_rankings_put_the_highest_first_and_equal_ones_by_place(tmp_path):
    files = {
        "b.py": "def x():\n  a\n  b\n",
        "a.py": "def y():\n  a\n  b\ndef z():\n  a\n",
        "test_c.py": "def t(): 0\n",
    }
    batches = [[facts_of(tmp_path, source, path) for path, source in files.items()]]
    found = action("audit_analysis:longest_functions")(batches, top=2)
    assert [(row["path"], row["name"], row["value"]) for row in found["library"]["top"]] == [
        ("a.py", "y", 3),
        ("b.py", "x", 3),
    ]
    assert (found["library"]["functions"], found["tests"]["functions"]) == (3, 1)


@pytest.mark.parametrize("top", [0, 26])
def test_a_ranking_longer_than_what_files_keep_is_refused(top):
    with pytest.raises(ValueError, match=f"top is {top}"):
        action("audit_analysis:longest_functions")([], top=top)


@given(st.dictionaries(st.integers(0, 300), st.integers(1, 50), min_size=1), st.integers(1, 100))
def test_a_quantile_is_the_value_at_its_place_in_the_sorted_list(tally, percent):
    values = sorted(value for value, count in tally.items() for _ in range(count))
    place = -(-len(values) * percent // 100) - 1
    assert action("audit_analysis:quantile")(tally, percent) == values[place]


@given(st.dictionaries(st.integers(0, 300), st.integers(1, 50)))
def test_groups_hold_every_function_once(tally):
    groups = action("audit_analysis:grouped")(tally, (0, 1, 2, 9))
    assert [group["label"] for group in groups] == ["0", "1", "2", "3–9", "10+"]
    assert sum(group["count"] for group in groups) == sum(tally.values())


# Imports


def test_an_import_leads_to_the_longest_audited_name():
    resolve = action("audit_imports:resolve")
    modules = {"a", "a.b", "a.c"}
    assert resolve("a.b.name", modules) == "a.b"
    assert resolve("a:b", modules) == "a.b"
    assert resolve("a:name", modules) == "a"
    assert resolve("other.b", modules) is None
    assert resolve("a:c", modules, {"a:c"}) == "a"


def test_a_name_that_a_package_imports_hides_its_module(tmp_path):
    files = {
        "pkg/__init__.py": "from .main import main",
        "pkg/main.py": "main = 1",
        "user.py": "from pkg import main",
    }
    batches = [[facts_of(tmp_path, source, path) for path, source in files.items()]]
    graph = action("audit_imports:import_graph")(batches)["graph"]
    assert graph["load"] == {"pkg": ["pkg.main"], "user": ["pkg"]}


def test_deferred_imports_make_only_deferred_cycles():
    graph = {"load": {"a": ["b"], "c": ["d"], "d": ["c"]}, "deferred": {"b": ["a"]}}
    cycles = action("audit_imports:import_cycles")(graph)
    assert [group["modules"] for group in cycles["at_import"]["groups"]] == [["c", "d"]]
    assert [group["shortest"] for group in cycles["with_deferred"]["groups"]] == [["a", "b"], ["c", "d"]]


names = st.sampled_from("abcdefgh")


@given(st.dictionaries(names, st.lists(names, unique=True).map(sorted)))
def test_cycles_are_the_modules_that_reach_each_other(graph):
    reached = {name: set(graph.get(name, ())) for name in "abcdefgh"}
    for middle, beyond in reached.items():
        for name, ends in reached.items():
            if middle in ends:
                reached[name] = ends | beyond
    together = {
        tuple(sorted({name, *(other for other in reached[name] if name in reached[other])}))
        for name in reached
    }
    found = action("audit_imports:components")(graph)
    assert sorted(map(tuple, found)) == sorted(group for group in together if len(group) > 1)
    for members in found:
        loop = action("audit_imports:shortest_cycle")(
            {k: [t for t in v if t != k] for k, v in graph.items()}, members
        )
        assert all(after in graph[before] for before, after in zip(loop, loop[1:] + loop[:1], strict=True))


def test_a_long_chain_of_imports_needs_no_recursion():
    graph = {f"m{number}": [f"m{number + 1}"] for number in range(50_000)}
    assert action("audit_imports:components")(graph) == []

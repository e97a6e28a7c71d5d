"""Frames, arrays and the user's own types travel from step to step as files, the same in every isolation."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest
from pandas.testing import assert_frame_equal

from codomyrmex import OrchestrationEngine, Workflow
from codomyrmex.exceptions import StoreCorrupt
from codomyrmex.logistics.orchestration.project import values
from codomyrmex.logistics.orchestration.project.executors.value_files import StateValueFiles, register_codec
from codomyrmex.logistics.orchestration.project.executors.worker import file_codecs
from codomyrmex.logistics.orchestration.project.executors.worker import values as worker_values

ISOLATIONS = ["thread", "process", "async"]
HERE = Path(__file__).parent


class Mesh:
    """A type that nothing keeps by itself."""

    def __init__(self, points: list[int]) -> None:
        self.points = points


class FineMesh(Mesh):
    """One of which the codec of its base is good enough."""


def write_mesh(mesh: Mesh, path: Path) -> None:
    path.write_text(json.dumps(mesh.points))


def read_mesh(path: Path) -> Mesh:
    return Mesh(json.loads(path.read_text()))


register_codec(Mesh, name="mesh", suffix=".mesh", write=write_mesh, read=read_mesh)


def frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "name": ["a", "b", None],
            "size": [1, 2, 3],
            "at": pandas.to_datetime(["2026-01-01", "2026-01-02", None]),
            "share": [0.1, math.nan, math.inf],
        },
        index=pandas.Index([10, 20, 30], name="id"),
    )


def large() -> numpy.ndarray[Any, Any]:
    return numpy.arange(40_000, dtype="float32").reshape(200, 200)


def make() -> dict[str, Any]:
    return {
        "frame": frame(),
        "rows": [large(), numpy.array(["é", "b"])],
        "mesh": Mesh([1] * 3000),
        "n": numpy.int8(3),
    }


def look(made: dict[str, Any], first: Any) -> list[Any]:
    assert_frame_equal(made["frame"], frame())
    assert numpy.array_equal(first, large())
    assert first.dtype == "float32"
    return [type(first).__name__, made["rows"][1].tolist(), sum(made["mesh"].points), made["n"]]


@pytest.fixture
def files(tmp_path: Path) -> StateValueFiles:
    return StateValueFiles(str(tmp_path / "values"))


@pytest.fixture
def _forget_codecs() -> Iterator[None]:
    by_type, by_name = dict(file_codecs._by_type), dict(file_codecs._by_name)
    yield
    for table, before in ((file_codecs._by_type, by_type), (file_codecs._by_name, by_name)):
        table.clear()
        table.update(before)
    file_codecs._known.clear()


def through(value: Any, files: StateValueFiles) -> Any:
    """The value as each side writes it and the other reads it."""
    data = values.encode(value, keep=files.keep)
    assert data == worker_values.dumps(value, keep=files.keep)
    worker_values.loads(data, open_file=files.read)
    return values.load(data, open_file=files.read)


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("kept", ["folder", "memory"])
def test_frames_and_arrays_are_the_same_after_a_step_in_every_isolation(
    isolation: str, kept: str, tmp_path: Path
) -> None:
    workflow = Workflow("frames")
    made = workflow.step(make).options(isolation=isolation)
    workflow.step(look, made=made.output, first=made.output["rows"][0]).options(isolation=isolation)
    state = tmp_path / "state" if kept == "folder" else ":memory:"
    with OrchestrationEngine(state=state, root=HERE) as engine:
        execution = engine.execute_workflow(workflow)
        assert execution.error is None
        assert execution.results["look"] == ["ndarray", ["é", "b"], 3000, 3]
        assert_frame_equal(execution.results["make"]["frame"], frame())
        assert numpy.array_equal(execution.results["make"]["rows"][0], large())


def pick(table: Any) -> Any:
    return table


def test_declared_outputs_and_another_isolation_get_the_value_itself(tmp_path: Path) -> None:
    workflow = Workflow(
        "mixed", outputs={"table": "${steps.two.output}", "size": "${steps.one.output.bytes}"}
    )
    one = workflow.step(frame).options(name="one", isolation="process")
    workflow.step(pick, table=one.output).options(name="two", isolation="thread")
    with OrchestrationEngine(state=tmp_path / "state", root=HERE) as engine:
        execution = engine.execute_workflow(workflow)
        assert execution.error is None
        assert_frame_equal(execution.outputs["table"], frame())
        assert execution.outputs["size"] > 0
        shown = execution.view.to_dict()["outputs"]["table"]
        assert shown["codec"] == "pandas.parquet"
        json.dumps(shown)


def test_a_value_that_is_only_passed_on_is_not_read(tmp_path: Path) -> None:
    workflow = Workflow("passing", outputs={"all": "${steps.make.output.rows}"})
    workflow.step(make).options(isolation="process")
    with OrchestrationEngine(state=tmp_path / "state", root=HERE) as engine:
        execution = engine.execute_workflow(workflow)
        assert execution.error is None
        (array,) = (tmp_path / "state" / "artifacts" / "results").glob("*.npy")
        array.write_bytes(b"nobody looks at this")
        assert execution.success


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_file_that_was_changed_is_never_served(isolation: str, tmp_path: Path) -> None:
    spoil = "import pathlib\ndef spoil(folder):\n" + textwrap.indent(
        "for path in pathlib.Path(folder).glob('*.npy'):\n"
        "    path.write_bytes(path.read_bytes()[:-1] + b'x')\n",
        "    ",
    )
    (tmp_path / "spoil.py").write_text(spoil)
    (tmp_path / "made.py").write_text(
        "import numpy\ndef big():\n    return numpy.zeros(5000)\ndef use(it):\n    pass\n"
    )
    folder = tmp_path / "state" / "artifacts" / "results"
    steps = [
        {"name": "big", "call": "./made.py:big"},
        {"name": "spoil", "call": "./spoil.py:spoil", "with": {"folder": str(folder)}, "needs": ["big"]},
        {"name": "use", "call": "./made.py:use", "with": {"it": "${steps.big.output}"}, "needs": ["spoil"]},
    ]
    path = tmp_path / "spoiled.json"
    path.write_text(
        json.dumps({"codomyrmex": 1, "name": "spoiled", "defaults": {"isolation": isolation}, "steps": steps})
    )
    with OrchestrationEngine(state=tmp_path / "state", root=tmp_path) as engine:
        execution = engine.execute_workflow(path)
        assert execution.error is not None
        assert "StoreCorrupt" in execution.error
        assert "has been changed since it was written" in execution.error
        with pytest.raises(StoreCorrupt, match="changed"):
            _ = execution.results["big"]


def test_the_same_content_is_one_file_and_small_content_is_none(files: StateValueFiles) -> None:
    tags = [files.keep(large(), file_codecs.codec_for(numpy.ndarray)) for _ in range(2)]
    small = files.keep(numpy.zeros(3), file_codecs.codec_for(numpy.ndarray))
    assert tags[0] == tags[1]
    assert [path.name for path in Path(files.folder).iterdir()] == [f"{tags[0]['sha256']}.npy"]
    assert numpy.array_equal(files.read(small), numpy.zeros(3))


def test_writing_again_heals_a_file_that_was_changed(files: StateValueFiles) -> None:
    codec = file_codecs.codec_for(numpy.ndarray)
    tag = files.keep(large(), codec)
    files.path_of(tag).write_bytes(b"spoiled")
    with pytest.raises(StoreCorrupt, match="changed"):
        files.read(tag)
    files.keep(large(), codec)
    assert numpy.array_equal(files.read(tag), large())
    files.path_of(tag).unlink()
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        files.read(tag)


@pytest.mark.parametrize("name", ["../" * 20 + "x" * 4, "a" * 63 + "/", "", "é/.."])
def test_a_tag_that_names_a_file_elsewhere_is_refused(name: str, files: StateValueFiles) -> None:
    for suffix in (".npy", "/../../etc/passwd"):
        with pytest.raises(StoreCorrupt, match="no name of a kept value"):
            files.read({"codec": "numpy.npy", "sha256": name, "suffix": suffix, "bytes": 1})


@pytest.mark.parametrize(
    "array",
    [
        numpy.array(5),
        numpy.zeros((0, 3)),
        numpy.array(["2026-01-01"], dtype="datetime64[ns]"),
        numpy.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        numpy.asfortranarray(numpy.ones((2, 3))),
        numpy.array([math.nan, -0.0, math.inf]),
        numpy.array([1 + 2j]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_every_kind_of_array_comes_back_as_it_was(array: Any, files: StateValueFiles) -> None:
    found = through(array, files)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("scalar", "plain"),
    [
        (numpy.float64(0.5), 0.5),
        (numpy.int64(-7), -7),
        (numpy.bool_(True), True),
        (numpy.str_("é"), "é"),
        (numpy.datetime64("2026-01-01T00:00:00", "ns"), pandas.Timestamp("2026-01-01").to_pydatetime()),
    ],
)
def test_numbers_of_numpy_are_those_of_python(scalar: Any, plain: Any, files: StateValueFiles) -> None:
    found = through(scalar, files)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            numpy.array([object()]),
            r"output\[0\].x is a numpy.ndarray, and the codec numpy.npy cannot write it",
        ),
        (numpy.ma.array([1], mask=[True]), r"output\[0\].x is a numpy.ma.MaskedArray"),
        (numpy.datetime64(1, "ns"), r"output\[0\].x is a numpy.datetime64"),
        (pandas.NaT, r"output\[0\].x is NaT"),
        (pandas.DataFrame({"a": [1], "b": [object()]}), r"output\[0\].x is a pandas"),
    ],
    ids=["objects", "masked", "nanoseconds", "not a time", "objects in a frame"],
)
def test_what_would_not_come_back_the_same_is_refused(value: Any, said: str, files: StateValueFiles) -> None:
    for encode in (values.encode, worker_values.dumps):
        with pytest.raises((values.Unserialisable, worker_values.Unserialisable), match=said):
            encode([{"x": value}], keep=files.keep)
    assert not [path for path in Path(files.folder).glob("*") if path.exists()]


HOSTILE = {
    "cyclic": (cyclic := [1]),
    "deep": (deep := [[]]),
    "file": sys.stdin,
    "generator": (each for each in ()),
    "surrogate key": {"\ud800": object()},
    "complex": 1j,
}
cyclic.append(cyclic)
for _ in range(300):
    deep = [deep]
HOSTILE["deep"] = deep


@pytest.mark.parametrize("name", HOSTILE)
def test_a_value_without_a_form_names_its_place_and_both_ways_out(name: str, files: StateValueFiles) -> None:
    with pytest.raises(values.Unserialisable) as caught:
        values.encode({"rows": [0, {"socket": HOSTILE[name]}]}, keep=files.keep)
    assert caught.value.path.startswith("output.rows[1].socket")
    for words in ("return JSON-able values", "write a file and return its Path", "register_codec"):
        assert words in str(caught.value)


@pytest.mark.parametrize("value", [2**70, -(2**63) - 1, math.nan, "\ud800", {"\ud800": 1}, {"$type": "file"}])
def test_odd_values_survive_beside_files(value: Any, files: StateValueFiles) -> None:
    found = through({"odd": value, "array": large()}, files)
    assert found["odd"] == value or math.isnan(value)
    assert numpy.array_equal(found["array"], large())


def test_a_constant_of_a_definition_cannot_be_a_file() -> None:
    with pytest.raises(values.Unserialisable, match="only results of steps are"):
        values.encode({"table": frame()}, root="parameters")


def test_without_pyarrow_a_frame_is_csv_where_that_gives_it_back(
    files: StateValueFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = file_codecs._BUILT_IN["pandas.csv"]
    plain = pandas.DataFrame({"a": [0.1, 1e300], "b": ["x", "y"]})
    assert_frame_equal(files.read(files.keep(plain, csv)), plain)
    with pytest.raises(file_codecs.CannotWrite, match="install pyarrow"):
        files.keep(frame(), csv)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert file_codecs._built_in(pandas.DataFrame) is csv


@pytest.mark.usefixtures("_forget_codecs")
def test_a_codec_is_for_a_type_and_its_subclasses_by_class_or_by_name(files: StateValueFiles) -> None:
    assert through(FineMesh([1]), files).points == [1]
    register_codec("decimal.Context", name="context", suffix=".txt", write=_write_repr, read=_read_text)
    import decimal

    assert through(decimal.Context(prec=7), files).startswith("Context(prec=7")


def _write_repr(value: Any, path: Path) -> None:
    path.write_text(repr(value))


def _read_text(path: Path) -> str:
    return path.read_text()


@pytest.mark.usefixtures("_forget_codecs")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": dict}, "need no codec"),
        ({"name": "numpy.npy"}, "built in"),
        ({"name": "a b"}, "use letters"),
        ({"suffix": "npy"}, "write it like"),
        ({"suffix": "./x"}, "write it like"),
    ],
)
def test_a_codec_that_cannot_work_is_refused(changes: dict[str, Any], said: str) -> None:
    given = {"kind": Mesh, "name": "m", "suffix": ".m", "write": write_mesh, "read": read_mesh, **changes}
    with pytest.raises(ValueError, match=said):
        register_codec(given.pop("kind"), **given)


def test_a_name_belongs_to_the_module_that_registered_it_first() -> None:
    with pytest.raises(ValueError, match="is taken: it is registered by test_codecs"):
        file_codecs.register_codec(
            Mesh, name="mesh", suffix=".m", write=write_mesh, read=read_mesh, home="another"
        )
    register_codec(Mesh, name="mesh", suffix=".mesh", write=write_mesh, read=read_mesh)


@pytest.mark.usefixtures("_forget_codecs")
def test_who_only_reads_imports_the_module_that_registers_the_codec(
    files: StateValueFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = files.keep(Mesh([4]), file_codecs.codec_for(Mesh))
    assert tag["home"] == "test_codecs"
    file_codecs._by_name.pop("mesh")
    (tmp_path / "lends_mesh.py").write_text(
        "from codomyrmex.logistics.orchestration.project.executors.value_files import register_codec\n"
        "register_codec('x.Y', name='mesh', suffix='.mesh', write=None, read=lambda path: path.read_text())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert files.read({**tag, "home": "lends_mesh"}) == "[4]"
    for lost in ("not_there_at_all", None):
        with pytest.raises(values.Undecodable, match="register"):
            values.decode(
                json.dumps({"$type": "file", "value": {**tag, "codec": "gone", "home": lost}}).encode(),
                open_file=files.read,
            )


@pytest.mark.usefixtures("_forget_codecs")
def test_an_entry_point_lends_a_codec_for_a_type_that_nothing_else_keeps(
    files: StateValueFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "rocks-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rocks\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[codomyrmex.codecs]\nrocks = rocks_codecs\n")
    (tmp_path / "rocks_codecs.py").write_text(
        "from codomyrmex.logistics.orchestration.project.executors.value_files import register_codec\n"
        "class Rock: pass\n"
        "register_codec(Rock, name='rock', suffix='.rock', write=lambda rock, path: path.write_text('rock'),\n"
        "               read=lambda path: Rock())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(file_codecs, "_asked", [])
    found = file_codecs.codec_named("rock")
    assert found.home == "rocks_codecs"
    rock = sys.modules["rocks_codecs"].Rock()
    assert type(through([rock], files)[0]) is type(rock)


def test_a_worker_without_this_package_knows_codecs_too(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, types
        package = types.ModuleType("codomyrmex_worker")
        package.__path__ = [sys.argv[1]]
        sys.modules["codomyrmex_worker"] = package
        from codomyrmex_worker import file_codecs, stub_package, values
        stub_package.install()
        from codomyrmex import register_codec
        class Point: pass
        register_codec(Point, name="p", suffix=".p", write=lambda v, path: path.write_text("p"), read=lambda path: 7)
        files = file_codecs.ValueFiles(sys.argv[2])
        data = values.dumps([Point()], keep=files.keep)
        assert values.loads(data, open_file=files.read) == [7], data
        """
    )
    worker = Path(file_codecs.__file__).parent
    command = [sys.executable, "-I", "-S", "-c", program, str(worker), str(tmp_path)]
    subprocess.run(command, check=True, cwd=tmp_path)


def test_no_file_of_values_is_left_half_written(files: StateValueFiles) -> None:
    def fail(_value: Any, path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.keep(1, file_codecs.Codec("bad", ".bad", fail, _read_text))
    with pytest.raises(file_codecs.CannotWrite, match="wrote no file"):
        files.keep(1, file_codecs.Codec("none", ".none", lambda value, path: None, _read_text))
    assert list(Path(files.folder).iterdir()) == []


def test_the_folder_of_a_state_in_memory_goes_with_its_engine() -> None:
    workflow = Workflow("scratch")
    workflow.step(large)
    with OrchestrationEngine(state=":memory:", root=HERE) as engine:
        execution = engine.execute_workflow(workflow)
        assert execution.error is None
        folder = Path(engine._host.results.values.folder)
        assert [path.suffix for path in folder.iterdir()] == [".npy"]
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()

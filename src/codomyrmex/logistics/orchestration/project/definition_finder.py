"""Where workflow definitions are found by name.

Layer: above workflow files. Looked at, in order: `codomyrmex.yaml|yml|toml|json` in the root, everything in
`workflows/`, `config/workflows/production/*.json`, and the folders that `[workflows] paths` names. A file is
one workflow, called by the `name` in it. Two files with one name are a fault that names both.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codomyrmex.exceptions import Fault, ValidationError, WorkflowNotFound
from codomyrmex.logistics.orchestration.project.workflow_file import SUFFIXES, LoadedDocument, load_path
from codomyrmex.logistics.storage.guard import is_state_path

ROOT_FILES = ("codomyrmex.yaml", "codomyrmex.yml", "codomyrmex.toml", "codomyrmex.json")
FOLDERS = ("workflows",)
PRODUCTION = "config/workflows/production"
FILES_AT_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDefinition:
    """A workflow file: its definition, or the faults that keep it from being one."""

    name: str
    file: Path
    loaded: LoadedDocument | None
    faults: tuple[Fault, ...] = ()


class DefinitionFinder:
    """Finds definitions below one root; reads files only when asked."""

    def __init__(self, root: Path, paths: Sequence[str] = ()) -> None:
        self.root = root
        self._paths = tuple(paths)

    def find(self, text: str, *, caller_dir: Path | None = None) -> LoadedDocument:
        """The definition that `run TEXT` means: an existing path, else a name.

        Raises `ValidationError` with every fault of the file, or when two files have the name, and
        `WorkflowNotFound` with the nearest name.
        """
        path = Path(caller_dir or Path.cwd(), text)
        if path.is_file() and path.suffix == ".py":
            raise ValidationError(
                [
                    Fault(
                        message="this is Python, not a workflow file",
                        file=text,
                        advice=f"run it with: python {text}",
                    )
                ],
                subject=text,
            )
        if path.is_file():
            return load_path(path, shown_as=text)
        if os.sep in text or path.suffix in SUFFIXES:
            raise WorkflowNotFound(
                text, nearest=_nearest_file(path), hint="no such file; a name has no suffix"
            )
        found = [each for each in self.all() if each.name == text]
        if len(found) > 1:
            files = " and ".join(str(self.shown(each.file)) for each in found)
            raise ValidationError(
                [Fault(message=f"two files define the workflow {text!r}: {files}", code="ambiguous_name",
                       advice="run one of them by its path, or rename one")],
                subject=f"the name {text!r}",
            )  # fmt: skip
        if not found:
            raise WorkflowNotFound(text, nearest=self._nearest(text), hint=self._looked_at())
        if found[0].loaded is None:
            raise ValidationError(found[0].faults, subject=str(self.shown(found[0].file)))
        return found[0].loaded

    def all(self) -> list[FoundDefinition]:
        """Every workflow file, sorted by name and then by path; faulty ones under their file's stem."""
        found = [self._read(file) for file in self._files()]
        return sorted(found, key=lambda each: (each.name, str(each.file)))

    def shown(self, file: Path) -> Path:
        """The path as people want to see it: relative to the root where it lies below it."""
        return file.relative_to(self.root) if file.is_relative_to(self.root) else file

    def _read(self, file: Path) -> FoundDefinition:
        try:
            loaded = load_path(file, shown_as=str(self.shown(file)))
        except ValidationError as error:
            return FoundDefinition(name=file.stem, file=file, loaded=None, faults=error.faults)
        return FoundDefinition(name=loaded.document["name"], file=file, loaded=loaded)

    def _files(self) -> Iterator[Path]:
        seen: set[Path] = set()
        for file in self._candidates():
            if (
                file.suffix in SUFFIXES
                and not _is_test(file)
                and file not in seen
                and not is_state_path(file)
            ):
                seen.add(file)
                yield file
                if len(seen) >= FILES_AT_MOST:
                    return

    def _candidates(self) -> Iterator[Path]:
        yield from (self.root / name for name in ROOT_FILES if (self.root / name).is_file())
        for folder in (*FOLDERS, *self._paths):
            place = self.root / folder
            if place.is_file():
                yield place
            elif place.is_dir():
                yield from sorted(
                    path for path in place.rglob("*") if path.is_file() and not path.is_symlink()
                )
        yield from sorted((self.root / PRODUCTION).glob("*.json"))

    def _nearest(self, text: str) -> str | None:
        near = difflib.get_close_matches(text, [each.name for each in self.all()], n=1)
        return near[0] if near else None

    def _looked_at(self) -> str:
        return f"looked at codomyrmex.yaml and workflows/ in {self.root}"


def _nearest_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return None
    names = [each.name for each in path.parent.iterdir() if each.suffix in SUFFIXES]
    near = difflib.get_close_matches(path.name, names, n=1)
    return near[0] if near else None


def _is_test(file: Path) -> bool:
    """Cases for `workflows test` stand beside the workflow in `NAME.test.yaml`."""
    return file.stem.endswith(".test")

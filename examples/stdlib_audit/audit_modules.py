"""How a path is read: the module's name, and whether it is a test. Pure."""

_TEST_FOLDERS = frozenset({"test", "tests", "idle_test"})


def module_name(path: str) -> str:
    """Return the dotted name under which the file at the relative `path` is imported."""
    parts = path[: -len(".py")].split("/")
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def is_test_folder(name: str) -> bool:
    """Tell whether a folder of this name holds a test suite."""
    return name in _TEST_FOLDERS


def is_test_path(path: str) -> bool:
    """Tell whether the file at the relative `path` belongs to a test suite."""
    *folders, name = path.split("/")
    return any(is_test_folder(folder) for folder in folders) or name.startswith("test_")


def is_public_module(path: str) -> bool:
    """Tell whether no part of the module's name is private; dunder names such as `__init__` are public."""
    return all(is_public_name(part) for part in path[: -len(".py")].split("/"))


def is_public_name(name: str) -> bool:
    """Tell whether `name` has no leading underscore, or is a dunder name."""
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))

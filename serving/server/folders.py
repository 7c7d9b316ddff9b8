"""What a command line names as a model: what cannot be one is told before anything is loaded."""

from pathlib import Path

from headrace.data.errors import ConfigError

__all__ = ["check_model"]

_PLACES = ("", "[0-9]*/", "*/[0-9]*/")
_RUN_FILES = ("summary.json", "report.html")
_SIDES = ("serving", "lite")


def check_model(path: Path) -> None:
    """Make sure that a path may be a model's folder or a config file.

    A folder without a version passes: one may come.

    Raises:
        ConfigError: If it is not there, or is something else for certain.
    """
    if not path.exists():
        raise ConfigError(f"a model must be a folder or a config file. Received: {path}, which is not there")
    if path.is_file():
        _check_file(path)
    elif _is_lite(path):
        raise _lite(path)
    elif any((path / name).is_file() for name in _RUN_FILES):
        raise ConfigError(
            f"a model must be a folder of versions. Received: {path}, the folder of a run",
            "what runs push is in their push folder: headrace serve push",
        )


def _check_file(path: Path) -> None:
    if path.name in ("saved_model.pb", "saved_model.pbtxt"):
        raise ConfigError(
            f"a model must be named by its folder. Received: {path}", f"headrace serve {path.parent}"
        )
    if path.suffix == ".tflite":
        raise _lite(path.parent)


def _holds(folder: Path, file: str) -> bool:
    return any(any(folder.glob(place + file)) for place in _PLACES)


def _is_lite(folder: Path) -> bool:
    """Tell whether a folder holds TF Lite bundles, as a model, its versions or a push does, and no more."""
    sides = [folder, *(folder / name for name in _SIDES)]
    return any(_holds(side, "model.tflite") for side in sides) and not any(
        _holds(side, "saved_model.pb*") for side in sides
    )


def _lite(folder: Path) -> ConfigError:
    """Return the error of a TF Lite bundle: who can use it, and the SavedModel beside it if there is one."""
    hints = [f"on this machine: headrace predict {folder} ROWS.csv, or headrace.serving.client.LiteClient"]
    parts = list(folder.parts)
    if "lite" in parts:
        parts[len(parts) - 1 - parts[::-1].index("lite")] = "serving"
        other = Path(*parts)
        if other.is_dir():
            hints.insert(0, f"headrace serve {other} serves its SavedModel")
    return ConfigError(
        f"a served model must be a SavedModel. Received: {folder}, a TF Lite bundle", "; ".join(hints)
    )

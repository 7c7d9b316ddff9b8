"""Publish a model atomically to its serving and lite sides, and roll back."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError, EnvironmentProblem

from .manifest import (
    MANIFEST,
    Manifest,
    Side,
    content_digest,
    meaning,
    probe,
    read_manifest,
)
from .repository import SIDES, Repository, Source, as_environment_problem, copy_durably, fsync_folder

__all__ = ["LOCK_TIMEOUT_S", "Bundle", "Published", "publish", "rollback"]

LOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Bundle:
    """What goes into one side's version folder.

    Attributes:
        variant: Name of the variant.
        files: Relative POSIX path -> a file to copy, or the content.
        gates: Gates to record in the manifest.
        model_sha256: Digest of what the model computes; None where a version of 0.1 comes back.
    """

    variant: str
    files: Mapping[str, Source | bytes]
    gates: Sequence[Mapping[str, Any]] = ()
    model_sha256: str | None = None


@dataclass(frozen=True)
class Published:
    """Where a model is.

    Attributes:
        version: Its version number; 0 where nothing has a target.
        created: Whether this call made the version.
        paths: Side -> version folder.
        variants: Side -> variant.
        restores: For a rollback: the version whose content this is; else 0.
    """

    version: int
    created: bool
    paths: Mapping[Side, Path] = field(default_factory=dict)
    variants: Mapping[Side, str] = field(default_factory=dict)
    restores: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object of pushed.json."""
        sides: dict[str, Any] = {
            side: {"variant": self.variants[side], "path": str(self.paths[side])}
            if side in self.paths
            else None
            for side in ("serving", "lite")
        }
        return {"version": self.version, **sides, "created": self.created}


def publish(
    push_dir: Path,
    model: str,
    bundles: Mapping[Side, Bundle],
    *,
    run_id: str,
    content_id: str | None,
    lock_timeout_s: float = LOCK_TIMEOUT_S,
) -> Published:
    """Publish `bundles` under the next version number, or find them published already.

    Both sides are put together in hidden folders and checked there; then lite is renamed into place
    and serving last. Whoever reads the repository sees a whole version or none.

    Args:
        push_dir: Root of the push target.
        model: Model name.
        bundles: Side -> content; at least one.
        run_id: Run that made the model.
        content_id: Identity of what made it.
        lock_timeout_s: Longest wait for another push, seconds.

    Raises:
        EnvironmentProblem: If the disk is full, the folder not writable, the lock held, or what was
            written does not read back. Nothing new is visible then.
    """
    if not bundles:
        return Published(0, created=False)
    repository = Repository(push_dir, model)
    with repository.lock(lock_timeout_s) as ledger, as_environment_problem(f"push folder {push_dir}"):
        version = max(repository.newest(), ledger.last_version()) + 1
        repository.clean()
        existing = _same_content(repository, bundles)
        if existing is not None:
            return existing
        template = Manifest(
            model=model,
            version=version,
            side="serving",
            variant="",
            targets={side: bundles[side].variant if side in bundles else None for side in SIDES},
            run_id=run_id,
            content_id=content_id,
            content_sha256="",
            gates=(),
            files=(),
        )
        with _staged(repository, version, bundles, template) as staged:
            ledger.record(version)
            return _reveal(repository, version, staged)


def rollback(
    push_dir: Path, model: str, to_version: int | None = None, *, lock_timeout_s: float = LOCK_TIMEOUT_S
) -> Published:
    """Republish old content as a new highest version.

    Args:
        push_dir: Root of the push target.
        model: Model name.
        to_version: Version whose content is wanted; by default the newest whose content differs
            from that of the highest.
        lock_timeout_s: Longest wait for another push, seconds.

    Raises:
        ConfigError: If there is no such version.
        EnvironmentProblem: If the old version is damaged, or publishing fails.
    """
    repository = Repository(push_dir, model)
    if not repository.newest():
        raise ConfigError(f"a rollback needs a published model. Received: {model} has none in {push_dir}")
    with repository.lock(lock_timeout_s) as ledger, as_environment_problem(f"push folder {push_dir}"):
        last = max(repository.newest(), ledger.last_version())
        repository.clean()
        newest = repository.newest()
        source = _rollback_source(repository, newest, to_version)
        olds = {side: probe(path) for side in SIDES if (path := repository.path(side, source)).is_dir()}
        bundles = {
            side: Bundle(
                old.variant,
                {e.path: Source(repository.path(side, source) / e.path, e.sha256) for e in old.files},
                old.gates,
                old.model_sha256,
            )
            for side, old in olds.items()
        }
        template = dataclasses.replace(
            next(iter(olds.values())),
            version=last + 1,
            targets={side: bundles[side].variant if side in bundles else None for side in SIDES},
            rolled_back_from=newest,
            restores=source,
        )
        with _staged(repository, last + 1, bundles, template) as staged:
            ledger.record(last + 1)
            return dataclasses.replace(_reveal(repository, last + 1, staged), restores=source)


@contextlib.contextmanager
def _staged(repository: Repository, version: int, bundles: Mapping[Side, Bundle], template: Manifest) -> Any:
    """Give the manifests of all sides, put together and checked in hidden folders; remove what is left."""
    folders = {side: repository.staging(side, version) for side in SIDES if side in bundles}
    try:
        manifests = {}
        for side, folder in folders.items():
            files = copy_durably(bundles[side].files, folder)
            manifest = dataclasses.replace(
                template,
                side=side,
                variant=bundles[side].variant,
                gates=bundles[side].gates,
                files=files,
                content_sha256=content_digest(files),
                model_sha256=bundles[side].model_sha256,
            )
            _write_durably(folder / MANIFEST, manifest.to_text())
            fsync_folder(folder)
            manifests[side] = probe(folder)
        yield manifests
    finally:
        for folder in folders.values():
            shutil.rmtree(folder, ignore_errors=True)


def _reveal(repository: Repository, version: int, manifests: Mapping[Side, Manifest]) -> Published:
    """Rename the staged folders into place, lite first; on failure take back what was renamed."""
    done: list[Side] = []
    try:
        for side in SIDES:
            if side not in manifests:
                continue
            os.rename(repository.staging(side, version), repository.path(side, version))
            done.append(side)
            for folder in (repository.side(side), repository.side(side).parent, repository.root):
                fsync_folder(folder)
            probe(repository.path(side, version))
    except BaseException:  # An interrupt too must not leave half a push.
        for side in reversed(done):
            # A failure here leaves an orphan, which the next push removes; the first error matters.
            with contextlib.suppress(OSError):
                repository.withdraw(side, version)
        raise
    return _published(repository, version, manifests, created=True)


def _same_content(repository: Repository, candidate: Mapping[Side, Bundle]) -> Published | None:
    """Return the newest published version if it is whole and answers as the candidate does."""
    newest = repository.newest()
    found: dict[Side, Manifest] = {}
    for side in SIDES:
        path = repository.path(side, newest)
        if path.is_dir() != (side in candidate):
            return None
        if side not in candidate:
            continue
        try:
            found[side] = probe(path)
        except EnvironmentProblem:
            return None  # Damaged: the new version repairs it.
        if found[side].meaning != _meaning(candidate[side], found[side]):
            return None
    return _published(repository, newest, found, created=False)


def _meaning(bundle: Bundle, published: Manifest) -> tuple[str, ...]:
    """Return what a version made of `bundle` means, known as well as of the published one."""
    sums = [
        (name, hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else source.sha256)
        for name, source in bundle.files.items()
    ]
    return meaning(bundle.variant, None if published.model_sha256 is None else bundle.model_sha256, sums)


def _published(
    repository: Repository, version: int, manifests: Mapping[Side, Manifest], *, created: bool
) -> Published:
    return Published(
        version,
        created,
        {side: repository.path(side, version) for side in manifests},
        {side: manifest.variant for side, manifest in manifests.items()},
    )


def _rollback_source(repository: Repository, newest: int, to_version: int | None) -> int:
    """Return the version whose content is to come back."""
    versions = sorted({v for side in SIDES for v in repository.versions(side)})
    if to_version is not None:
        if to_version not in versions:
            raise ConfigError(
                f"a rollback must name a published version: {', '.join(map(str, versions))}. "
                f"Received: {to_version} ({repository.model})"
            )
        return to_version
    current = _meanings(repository, newest)
    for version in reversed(versions):
        if version < newest and _meanings(repository, version) != current:
            return version
    raise ConfigError(
        "a rollback needs an older version with other content. "
        f"Received: {repository.model} has only {', '.join(map(str, versions))}"
    )


def _meanings(repository: Repository, version: int) -> list[tuple[str, ...] | None]:
    manifests = [read_manifest(repository.path(side, version)) for side in SIDES]
    return [None if manifest is None else manifest.meaning for manifest in manifests]


def _write_durably(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())

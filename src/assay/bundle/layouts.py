"""How a bundle is laid out where it is wanted: as it is, or as another server's folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from assay.bundle.check import Harmless
from assay.bundle.contents import Bundle
from assay.bundle.manifest import manifest_digest, verify_manifest
from assay.core.errors import BadInput, StorageFailed, UntrustedCode

# Each layout takes (bundle folder, target folder, LayoutOptions, Trust) and returns a Laid.
LAYOUTS: dict[str, str] = {
    "assay": "assay.bundle.layouts:copy_bundle",
    "triton": "assay.bundle.triton:write_repository",
}


@dataclass(frozen=True)
class LayoutOptions:
    """What a Triton model repository can be told; a copy takes none of it.

    ``backend`` is ``native`` or ``python``; ``pictures`` (python only) takes encoded pictures in place of tensors.
    ``delay_us`` is how long Triton's batcher may wait for more; None elsewhere: as the bundle says.
    """

    backend: str = "native"
    name: str | None = None
    max_batch: int | None = None
    delay_us: int = 0
    instances: int | None = None
    pictures: bool = False


@dataclass(frozen=True)
class Trust:
    """``given``: somebody vouches for the bundle, or its digest was compared with one that came another way.
    ``harmless`` as in ``check``: of an engine whose options nobody lists, none is."""

    given: bool = False
    harmless: Harmless | None = None

    def refuse(self, carried: Bundle, what: str) -> None:
        """Raises UntrustedCode where what is ``carried`` on takes trust and has none; ``what`` begins the sentence."""
        why = carried.why_trust(self.harmless(carried.candidate.engine) if self.harmless else ())
        if why is not None and not self.given:
            digest = manifest_digest(carried.folder)
            raise UntrustedCode(
                f"{what} {why}", remedy=f"--digest {digest}   (if that is the digest you were given), or --trust"
            )


@dataclass(frozen=True)
class Laid:
    """What was written; ``notes`` is what of the bundle has no place there, or what the reader needs to know."""

    folder: Path
    notes: tuple[str, ...] = ()


def copy_bundle(folder: Path, out_dir: Path, options: LayoutOptions, trust: Trust | None = None) -> Laid:
    """Copy the bundle to ``out_dir``, which must not exist, and recompute its digests there.

    It takes no ``trust``: nothing is opened, and whoever opens the copy is asked.

    Raises BadInput for a folder that is in the way or inside the bundle, a bundle that is not whole, or options of
    another layout; StorageFailed where it cannot be written.
    """
    if options != LayoutOptions():
        raise BadInput("a bundle is copied as it is; these options are for Triton", remedy="--layout triton")
    if out_dir.exists():
        raise BadInput(f"{out_dir} exists already", remedy="give a folder that does not exist yet")
    refuse_inside(folder, out_dir)
    temporary = out_dir.with_name(out_dir.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(folder, temporary)
        problems = verify_manifest(temporary)
        if problems:
            raise BadInput(f"the bundle {folder} is not whole: {problems[0]}")
        temporary.rename(out_dir)
    except OSError as error:
        raise StorageFailed(f"cannot copy the bundle to {out_dir}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Laid(out_dir)


def refuse_inside(folder: Path, out_dir: Path) -> None:
    """Raises BadInput where ``out_dir`` lies in the bundle itself: the copy would hold itself, the bundle be broken."""
    if out_dir.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"{out_dir} lies inside the bundle {folder}", remedy="give a folder outside it")

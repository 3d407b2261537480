"""``.pt``, ``.pth``, ``.pth.tar`` and ``.pt2``: which of four things it is, told by its content."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from assay.core.archives import check_members, is_zip
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.table import resolve
from assay.sources.options import Architecture, SourceOptions

CONTENTS: dict[str, str] = {
    "checkpoint": "assay.sources.checkpoint:open_source",
    "torchscript": "assay.sources.torchscript:open_source",
    "exported": "assay.sources.exported:open_program",
    "aoti": "assay.sources.exported:open_package",
}


def open_source(spec: str, options: SourceOptions) -> Architecture | Model:
    """Hand the file to the source its content belongs to.  Raises BadInput for a damaged file."""
    opener = resolve(CONTENTS, kind_of(Path(spec)), "content")
    found: Architecture | Model = opener(spec, options)
    return found


def kind_of(path: Path) -> str:
    """``checkpoint``, ``torchscript``, ``exported`` or ``aoti``, from the listing of the archive.

    A file that is no zip is a checkpoint in torch's older format if its name is not ``.pt2``.
    Raises BadInput for a zip that is none of them, that has lost its end, or that would unpack to far more than it is.
    """
    if not is_zip(path):
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04" or path.suffix.lower() == ".pt2":
            raise BadInput(f"{path} is damaged or cut short: its archive has no listing", remedy="get the file again")
        return "checkpoint"
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive, path)
            flat = archive.namelist()
    except (zipfile.BadZipFile, ValueError, RuntimeError) as error:
        raise BadInput(
            f"{path} is damaged: its archive cannot be listed ({error})", remedy="get the file again"
        ) from error
    names = [PurePosixPath(*PurePosixPath(n).parts[1:]).as_posix() for n in flat]
    if any(n.startswith(("data/aotinductor/",)) for n in (*names, *flat)):
        return "aoti"
    if any(n.startswith("models/") or n == "serialized_exported_program.json" for n in (*names, *flat)):
        return "exported"
    if "constants.pkl" in names and any(n.startswith("code/") for n in names):
        return "torchscript"
    if path.suffix.lower() == ".pt2":  # the listing found may be that of an archive inside, the outer one's being lost
        raise BadInput(f"{path} is no exported program, or is damaged or cut short", remedy="get the file again")
    if "data.pkl" in names:
        return "checkpoint"
    raise BadInput(
        f"{path} is neither a checkpoint, TorchScript, nor an exported program; it holds {', '.join(flat[:5])}"
    )

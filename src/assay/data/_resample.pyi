from typing import Any

def resample(
    pixels: Any,
    shape: tuple[int, int, int],
    resized: tuple[int, int, bool],
    filter: int,
    window: tuple[int, int, int, int],
    fill: bytes,
    table: Any,
    out: Any,
    plain: bool = False,
    bytes: bool = False,
    /,
) -> None: ...

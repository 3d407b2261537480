"""Checkpoints: read without running code, unwrapped, fitted to a module."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.archives import check_members, is_zip
from assay.core.errors import BadInput, NotAvailable, UntrustedCode
from assay.sources.arguments import first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

# Under which key training code keeps the weights; averaged ones first, since they are meant for use.
WRAPPERS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "params_ema",
    "state_dict", "model_state_dict", "model", "module", "net", "network", "generator", "params", "weights",
)  # fmt: skip
_SHOWN = 5
_DEEPEST = 8
"""Wrappers within wrappers; a file may wrap itself."""


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's keys lie to a module's: what fits, and what does not."""

    state: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    @property
    def is_exact(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def describe(self) -> str:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.mismatched}
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:_SHOWN])}{', …' if len(keys) > _SHOWN else ''})"
            for what, keys in kinds.items()
            if keys
        ]
        return f"{len(self.state)} of the keys fit; {'; '.join(parts)}"


def read_checkpoint(path: Path, trust: bool) -> Any:
    """What the file holds.  Nothing in it runs unless ``trust``.

    Raises BadInput for a file that is no checkpoint or is damaged, UntrustedCode for one that would
    import and run something, naming it, NotAvailable for .safetensors without that library.
    """
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    if path.name.lower().endswith(".safetensors"):
        return _read_safetensors(path)
    import argparse

    import torch

    _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise _refused(path, error, trust) from error
    except (AttributeError, ImportError) as error:
        raise BadInput(
            f"{path} holds an object whose class cannot be found here: {first_line(error)}",
            remedy="save module.state_dict() instead, and give its architecture with --arch",
        ) from error
    except Exception as error:
        raise BadInput(f"{path} is not a readable checkpoint: {type(error).__name__}: {first_line(error)}") from error


def _check_archive(path: Path) -> None:
    if is_zip(path):
        with contextlib.suppress(zipfile.BadZipFile, ValueError, RuntimeError), zipfile.ZipFile(path) as archive:
            check_members(archive, path)  # what is damaged, torch says


def find_state(content: Any, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors by name, and the wrappers they lay under.  Raises BadInput when there are none."""
    import torch
    from torch import nn

    under: tuple[str, ...] = ()
    while len(under) <= _DEEPEST:
        if isinstance(content, nn.Module):
            content = content.state_dict()
        if not isinstance(content, Mapping):
            raise BadInput(f"{path} holds a {type(content).__name__}, not weights by name")
        key = next((k for k in WRAPPERS if _holds_weights(content.get(k))), None)
        tensors = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
        if tensors and key is None:
            return tensors, under
        if key is None:
            keys = ", ".join(str(k) for k in list(content)[:_SHOWN]) or "nothing"
            raise BadInput(f"{path} holds no weights by name; it holds {keys}")
        content, under = content[key], (*under, key)
    raise BadInput(f"{path} holds no weights by name: it is wrapped more than {_DEEPEST} times")


def _holds_weights(value: Any) -> bool:
    """Whether tensors lie in it by name, perhaps wrapped again.  What lies beside a wrapper says nothing: training
    scripts keep the best accuracy so far there, as a tensor too."""
    import torch
    from torch import nn

    waiting, seen = [value], set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, nn.Module):
            return True
        if isinstance(found, Mapping) and id(found) not in seen:
            seen.add(id(found))
            if any(isinstance(v, torch.Tensor) for v in found.values()):
                return True
            waiting += [found[k] for k in WRAPPERS if k in found]
    return False


def fit(state: Mapping[str, Tensor], module: nn.Module) -> tuple[Fit, str]:
    """Compare with a module's own state, with the first common segments taken off if that fits exactly.

    Gives the fit and the prefix that was taken off.  ``num_batches_tracked``, which nothing reads
    outside training, may be missing.
    """
    expected = module.state_dict()
    plain = _compare(state, expected)
    prefix, rest = "", dict(state)
    while not plain.is_exact:
        heads = {k.partition(".")[0] for k in rest}
        if len(heads) != 1 or any("." not in k for k in rest):
            break
        head = heads.pop() + "."
        prefix, rest = prefix + head, {k.removeprefix(head): v for k, v in rest.items()}
        stripped = _compare(rest, expected)
        if stripped.is_exact or not (stripped.missing or stripped.unexpected):
            return stripped, prefix
    return plain, ""


def load_into(module: nn.Module, content: Any, path: Path, strict: bool) -> tuple[str, tuple[str, ...]]:
    """Put a checkpoint's weights into ``module``; give the words for the report and the warnings.

    Raises BadInput for keys or shapes that do not fit (only when nothing fits, if not ``strict``)
    and for weights that are not numbers.
    """
    state, under = find_state(content, path)
    found, prefix = fit(state, module)
    warnings: tuple[str, ...] = ()
    if not found.is_exact:
        if strict or not found.state:
            raise _misfit(path, found, len(module.state_dict()), strict)
        warnings = (f"{path.name} was loaded without strictness: {found.describe()}; what is missing was randomised",)
    _check_values(found.state, module.state_dict(), path)
    module.load_state_dict(dict(found.state), strict=False)
    words = path.name
    words += f", under {'.'.join(under)}" if under else ""
    words += f", without the prefix {prefix}" if prefix else ""
    return words, warnings


def _check_values(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Only of what fits: a tensor elsewhere in the file may claim any size."""
    import torch

    for key, value in state.items():
        kind = next((k for k, holds in _UNLIKE.items() if holds(value) != holds(expected[key])), None)
        if kind is not None:
            raise BadInput(
                f"{path}: {key} is {'' if _UNLIKE[kind](value) else 'not '}{kind}, unlike the architecture's",
                remedy="save module.state_dict() of that very architecture, with dense weights on a real device",
            )
    nan = [k for k, v in state.items() if v.is_floating_point() and not v.is_meta and bool(torch.isnan(v).any())]
    if nan:
        raise BadInput(f"{path} holds NaN in {len(nan)} tensors ({', '.join(nan[:_SHOWN])})")


_UNLIKE: dict[str, Callable[[Tensor], bool]] = {
    "without values (on the meta device)": lambda t: t.is_meta,
    "quantised": lambda t: t.is_quantized,
    "complex": lambda t: t.is_complex(),
    "sparse": lambda t: str(t.layout) != "torch.strided",
}
"""What torch would not copy, or only with a loss."""


def _compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Fit:
    fits, unexpected, mismatched = {}, [], []
    for key, value in state.items():
        if key not in expected:
            unexpected.append(key)
        elif value.shape != expected[key].shape:
            mismatched.append(f"{key} {tuple(value.shape)} for {tuple(expected[key].shape)}")
        else:
            fits[key] = value
    missing = [k for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    return Fit(fits, tuple(missing), tuple(unexpected), tuple(mismatched))


def _misfit(path: Path, found: Fit, wanted: int, strict: bool) -> BadInput:
    share = len(found.state) / max(wanted, 1)
    if share < 0.5:
        return BadInput(
            f"{path} is a checkpoint for another architecture: {found.describe()}",
            remedy="check --arch (or the model's name and arguments) against the file",
        )
    remedy = "check the model's arguments, or load what fits with --no-strict" if strict else None
    return BadInput(f"{path} does not fit the architecture: {found.describe()}", remedy=remedy)


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise NotAvailable(
            f"{path} needs safetensors, which cannot be imported ({error})", remedy="pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} is not a readable safetensors file: {first_line(error)}") from error


def _refused(path: Path, error: pickle.UnpicklingError, trust: bool) -> BadInput:
    if trust:
        return BadInput(f"{path} is not a readable checkpoint: {first_line(error)}")
    names = foreign_globals(path)
    if not names and "Unsupported" not in str(error) and "GLOBAL" not in str(error):
        return BadInput(f"{path} is not a readable checkpoint: {first_line(error)}")
    what = f"it asks for {', '.join(names[:_SHOWN])}" if names else "it asks for more than tensors"
    return UntrustedCode(
        f"opening {path} would run code: {what}",
        remedy="if you trust where it comes from, add --trust; better, save module.state_dict() and load that",
    )


def foreign_globals(path: Path) -> list[str]:
    """What a pickle in a zip archive would import beyond tensors; nothing is imported to find out."""
    import torch

    if not is_zip(path):
        return []
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return []

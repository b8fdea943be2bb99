"""Import torchvision wherever it can be imported at all; imported first by all that need it.

torchvision's PyPI wheel is linked against CUDA. Beside a CPU-only torch its C++ library does not
load, and the first registration of a meta kernel then dies with "operator torchvision::nms does not
exist", which takes torchmetrics, lightning and lpips down with it. None of them needs those
operators here: naming the two schemas that are asked for at import is enough.

Where torchvision is sound this module does nothing.
"""

from __future__ import annotations

import sys

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _import() -> torch.library.Library | None:
    """Return the library that holds the missing schemas, or None where torchvision is sound."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return None
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)  # type: ignore[no-untyped-call]
    import torchvision  # noqa: F401

    return library


SCHEMAS = _import()  # a schema lives as long as its library does

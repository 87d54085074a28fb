"""Shows the cross-references of docstrings, written for Python's own tools, as code with a link where there is one."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(~?)([\w.]+)`")


class SphinxRoles(Extension):
    """Turns ``:class:`~hardy.errors.UsageError``` into ``[`UsageError`][hardy.errors.UsageError]``."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(_link, obj.docstring.value)


def _link(found: re.Match[str]) -> str:
    short, name = found.groups()
    return f"`{name.rpartition('.')[2] if short else name}`"

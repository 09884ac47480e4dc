"""The trace that a request belongs to, for those who read who holds a lock: OpenTelemetry's, or what a proxy has sent.

OpenTelemetry is asked where the site has loaded it, and never loaded for this. Headers can be sent by anybody, so only
an id that looks like one is believed, and it is for people alone.
"""

from __future__ import annotations

import re
import sys
from typing import Any

LONGEST = 64  # characters
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII)
_STRANGE = re.compile(r"[^\w.:/+=@-]", re.ASCII)


def trace_of(request: Any = None) -> str:
    """The id of the current trace, "" if there is none: that of OpenTelemetry's span, of the header ``traceparent``, or
    what ``X-Request-ID`` says."""
    telemetry = sys.modules.get("opentelemetry.trace")
    if telemetry is not None and hasattr(telemetry, "get_current_span"):  # not so while it is being imported
        context = telemetry.get_current_span().get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}"
    meta = getattr(request, "META", None)
    if not isinstance(meta, dict):
        return ""
    # Past the methods of a META that notes what a cached page reads of it: no page shows this.
    parent = _TRACEPARENT.fullmatch(str(dict.get(meta, "HTTP_TRACEPARENT", "")))
    if parent:
        return parent[1]
    return _STRANGE.sub("", str(dict.get(meta, "HTTP_X_REQUEST_ID", ""))[: 2 * LONGEST])[:LONGEST]

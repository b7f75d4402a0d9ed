"""The check against cross-site request forgery (CSRF): did a request come from the dashboard's own pages?

docs/decisions/0017-csrf-by-request-headers.md has the reasons.
"""

from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web

from inboxd.http.problems import ProblemError

SAFE_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})
"""Methods that change nothing and need no check."""
SEC_FETCH_SITE: Final = "Sec-Fetch-Site"
_OWN: Final = frozenset({"same-origin", "none"})
"""`none`: the user started the request, for example from the address bar; no site did."""


def require_same_origin(request: web.Request) -> None:
    """Check the headers that browsers set and that no page can forge. Raises ProblemError (403).

    `Sec-Fetch-Site` decides where it is present. Browsers leave it out over plain HTTP, except to localhost, and older
    ones do not know it: then the host and port of `Origin` must equal `Host`. A request with neither header is refused.
    """
    site = request.headers.get(SEC_FETCH_SITE)
    if site is not None:
        if site not in _OWN:
            raise _refused("The request comes from another site. Only the dashboard's own pages may send it.")
        return
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        raise _refused(
            "The request has neither a Sec-Fetch-Site nor an Origin header. Browsers send them; "
            "programs do not sign in, they send 'Authorization: Bearer <token>'."
        )
    _, _, authority = origin.partition("://")
    if not authority or authority.lower() != request.headers.get(hdrs.HOST, "").lower():
        raise _refused(
            "The Origin header does not match the Host header. Only the dashboard's own pages may send this request. "
            "A proxy in front of the dashboard must pass on the Host header."
        )


def _refused(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.FORBIDDEN, detail)

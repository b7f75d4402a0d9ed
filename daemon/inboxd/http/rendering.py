"""Rendering of pages: templates, headers, and errors as pages."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp_jinja2
import jinja2
from aiohttp import hdrs, web

from inboxd.domain.budget import times_slower
from inboxd.domain.message_type import in_words
from inboxd.http.auth import SESSION
from inboxd.http.problems import SAFE_HEADERS, Handler, ProblemError
from inboxd.runtime.clock import Clock, iso_utc

T = TypeVar("T")
SIGN_IN: Final = "/sign-in"
TICKED: Final = {"1": True}
"""The choice that a check box sends."""
_MAX_QUOTED: Final = 40
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    **SAFE_HEADERS,
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers send `Origin: null` with our own forms
}
_CLOCK: Final = web.AppKey("dashboard.clock", Clock)
_NAVIGATION: Final = web.AppKey("dashboard.navigation", tuple)

Context = Mapping[str, Any]


def set_up(app: web.Application, clock: Clock, packages: Sequence[str], navigation: Sequence[tuple[str, str]]) -> None:
    """Let `app` render the templates of these packages. Each package has them in its folder `templates`.

    `navigation` is what every page links to: paths, each with its text.
    """
    app[_CLOCK] = clock
    app[_NAVIGATION] = tuple(navigation)
    environment = aiohttp_jinja2.setup(
        app,
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(one) for one in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "times_slower": times_slower,
        "when": _when,
        "number": _number,
        "span": span,
        "web_address": _web_address,
        "kind": in_words,
        "counted": _counted,
    }


def page(request: web.Request, template: str, context: Context, *, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """A response with a page. Beside `context`, every template gets the values of `known`."""
    owner = request.get(SESSION)
    known = {
        "path": request.path,
        "signed_in": owner is not None,
        "can_write": owner is not None and "write" in owner.scopes,
        "can_send": owner is not None and "send" in owner.scopes,
        "owner": "" if owner is None else owner.name,
        "now": request.app[_CLOCK].now_ms(),
        "navigation": request.app[_NAVIGATION],
    }
    response = aiohttp_jinja2.render_template(template, request, {**known, **context}, status=status)
    response.headers.update(HEADERS)
    return response


def offset_of(request: web.Request) -> int:
    """The offset of a list in the query; 0 if it is missing or not a number."""
    text = request.query.get("offset", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def choice_of(request: web.Request, name: str, choices: Mapping[str, T]) -> T | None:
    """What a filter in the query chooses; None if it is missing or empty. Raises ProblemError for an unknown choice.

    A list that ignored it would show what nobody asked for.
    """
    text = request.query.get(name, "")
    if not text:
        return None
    if text not in choices:
        known = ", ".join(f"'{one}'" for one in choices)
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"'{name}' cannot be '{text[:_MAX_QUOTED]}'. It can be {known}.")
    return choices[text]


def see_other(path: str) -> web.Response:
    """Redirect to another page (303, RFC 9110, 15.4.4)."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": path})


def wants_page(request: web.Request) -> bool:
    """Whether the request is for a page in a browser, and not for the API."""
    accepted = request.headers.get(hdrs.ACCEPT, "")
    return "text/html" in accepted and not request.path.startswith("/api/")


@web.middleware
async def error_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Render problems as pages for browsers, and redirect them to the sign-in page if authentication is missing."""
    try:
        return await handler(request)
    except (ProblemError, web.HTTPException) as error:
        if not wants_page(request):
            raise
        status = HTTPStatus(error.status)
        if status is HTTPStatus.UNAUTHORIZED and request.path != SIGN_IN:
            return see_other(f"{SIGN_IN}?next={quote(request.path_qs)}" if request.method == "GET" else SIGN_IN)
        detail = error.detail if isinstance(error, ProblemError) else ""
        return page(request, "error.html", {"title": status.phrase, "detail": detail}, status=status)


def span(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "unknown"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            whole, rest = divmod(round(seconds), size)
            smaller = {86_400: ("h", 3_600), 3_600: ("min", 60), 60: ("s", 1)}[size]
            more = f" {rest // smaller[1]} {smaller[0]}" if rest >= smaller[1] else ""
            return f"{whole} {unit}{more}"
    return f"{seconds:.0f} s"


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun, `one` in the singular. `many` is the plural where it is irregular."""
    return f"{_number(count)} {one if count == 1 else many or one + 's'}"


def _web_address(text: str | None) -> str | None:
    """The address if it is a web address, else None. It comes from outside and may be anything."""
    try:
        return text if text is not None and urlsplit(text).scheme in {"http", "https"} else None
    except ValueError:  # for example http://[
        return None


def _when(value: int | str | None) -> Any:  # noqa: ANN401 - Markup, which mypy sees as Any
    """A `<time>` element in UTC of a time in ms or ISO 8601. The script shows it in the reader's time zone."""
    from markupsafe import Markup  # noqa: PLC0415 - jinja2's own

    if value is None:
        return Markup('<span class="faint">never</span>')
    iso = iso_utc(value) if isinstance(value, int) else value
    moment = datetime.fromisoformat(iso).astimezone(UTC)
    return Markup('<time datetime="{0}" title="{0}">{1}</time>').format(iso, f"{moment:%Y-%m-%d %H:%M} UTC")

"""`/api/docs`: Swagger UI with our own OpenAPI document. A dependency contains its files; no other host is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from inboxd.http.openapi import DOCUMENT_PATH
from inboxd.http.operations import Operation, not_found
from inboxd.http.problems import SAFE_HEADERS

PATH: Final = "/api/docs"
_SCRIPT: Final = f"""window.addEventListener("load", () => {{
  window.ui = SwaggerUIBundle({{ url: "{DOCUMENT_PATH}", dom_id: "#swagger-ui", validatorUrl: null }});
}});
"""
_PAGE: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>inboxd admin API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{PATH}/swagger-ui.css">
<script src="{PATH}/swagger-ui-bundle.js" defer></script>
<script src="{PATH}/initializer.js" defer></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {**SAFE_HEADERS, "Content-Security-Policy": _POLICY}


class DocsPage:
    """The page and its files. It needs no token, since it contains no data; the requests that it sends need one."""

    def operations(self) -> Sequence[Operation]:
        """The operations of this part."""
        return [
            Operation("GET", PATH, self.page, "system", {200: "text/html"}, open=True),
            Operation("GET", PATH + "/initializer.js", self.script, "system", {200: "text/javascript"}, open=True),
            Operation("GET", PATH + "/swagger-ui.css", self.style, "system", {200: "text/css"}, open=True),
            Operation(
                "GET", PATH + "/swagger-ui-bundle.js", self.bundle, "system", {200: "text/javascript"}, open=True
            ),
        ]

    async def page(self, _request: web.Request) -> web.Response:
        """This API in Swagger UI."""
        return web.Response(text=_PAGE, content_type="text/html", headers=_HEADERS)

    async def script(self, _request: web.Request) -> web.Response:
        """What starts Swagger UI."""
        return web.Response(text=_SCRIPT, content_type="text/javascript", headers=_HEADERS)

    async def style(self, _request: web.Request) -> web.StreamResponse:
        """Swagger UI's style sheet."""
        return self._file("swagger-ui.css", "text/css")

    async def bundle(self, _request: web.Request) -> web.StreamResponse:
        """Swagger UI."""
        return self._file("swagger-ui-bundle.js", "text/javascript")

    @staticmethod
    def _file(name: str, kind: str) -> web.StreamResponse:
        from importlib.metadata import distribution  # noqa: PLC0415 - costs memory; the page is rarely opened

        path = Path(str(distribution("swagger-ui-py").locate_file(f"swagger_ui/static/{name}")))
        if not path.is_file():
            raise not_found("file")
        return web.FileResponse(path, headers={**_HEADERS, "Cache-Control": "max-age=86400", "Content-Type": kind})

"""From a request to its handler, by one look-up for the paths that are fixed.

Rules: the table is made of the routes that the application has, and gives each request the match that its router would
have given it. Whatever is not found there goes to the application: paths with parameters, with a query, escaped or
unknown, and requests that expect something first. So does everything, if the application has middlewares.
"""

from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


def dispatcher(app: web.Application, resolve: Handle) -> Handle:
    """Call it with a request of `app`, which has started; `resolve` is the application's own way."""
    matches = {} if app.middlewares else _matches(app)

    def dispatch(request: web.Request) -> Awaitable[web.StreamResponse]:
        match = matches.get((request.method, request.raw_path))
        if match is None or hdrs.EXPECT in request.headers:
            return resolve(request)
        request._match_info = match
        return match.handler(request)

    return dispatch


def _matches(app: web.Application) -> dict[tuple[str, str], web.UrlMappingMatchInfo]:
    matches: dict[tuple[str, str], web.UrlMappingMatchInfo] = {}
    for resource in app.router.resources():
        if isinstance(resource, web.PlainResource):
            for route in resource:
                match = web.UrlMappingMatchInfo({}, route)
                match.add_app(app)
                match.freeze()
                matches.setdefault((route.method, resource.canonical), match)
    return matches

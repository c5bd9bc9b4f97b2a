"""CXDB's HTTP interface over any store of turns, as an ASGI application and on a socket."""

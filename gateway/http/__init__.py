"""HTTP: the table of routes, bodies in, problems out, who may ask, and the page."""

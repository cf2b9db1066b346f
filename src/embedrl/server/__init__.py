"""The HTTP server: search, recommendation and the models, with a web page."""

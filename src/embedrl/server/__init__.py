"""The server: search, recommendation and the models over HTTP, with a page that shows the evidence."""

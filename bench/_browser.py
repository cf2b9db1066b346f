"""The browser that the page is driven in, by its tests, its bench and the screenshots of the documents."""

import shutil

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
"""Path of Chromium or Chrome; None where neither is on the PATH."""

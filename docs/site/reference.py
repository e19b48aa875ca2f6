"""Pages of the reference, written from what the code says of itself."""

from __future__ import annotations

import api
import commands
import configuration
import messages
import network_pages
import results
import tasks


def pages() -> dict[str, str]:
    """Return the text of every page by its path in the site."""
    return {
        "reference/commands.md": commands.page(),
        "reference/configuration.md": configuration.page(),
        "reference/networks.md": network_pages.page(),
        "reference/messages.md": messages.page(),
        "reference/results.md": results.page(),
        "reference/tasks.md": tasks.page(),
        **api.pages(),
    }

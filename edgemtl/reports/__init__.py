"""Reports as HTML pages, one file each that needs nothing next to it."""

"""What is published in one place: its versions and tags, `catalog.json`, a web page and Croissant metadata.

`web/` holds the page's HTML, CSS and JavaScript.
"""

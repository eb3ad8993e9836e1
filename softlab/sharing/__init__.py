"""Teams hand stores to each other: published under names and versions, found, signed, pulled whole or in part.

    publish/      push a store as a version, and remove what interrupted pushes left
    fetch/        pull a store, or some of its views, features and samples
    catalogue/    which versions are published, for people (a web page) and for programs
    signing/      sign a store, and check who signed one

A folder imports only from rows below its own, and folders of one row never import each other. `tests/test_layers.py`
checks that these are the rows:

    publish | fetch
    catalogue | signing
"""

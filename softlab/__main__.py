"""`python -m softlab`."""

from softlab.cli.main import main

main()

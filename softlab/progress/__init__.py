"""Progress of long work: a bar in a terminal or a notebook, a line every half minute in a log."""

"""Run the teacher once: plan a dump, make it, go on with it."""

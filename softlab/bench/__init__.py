"""How fast a store is read, and a student's step is, on the machine at hand."""

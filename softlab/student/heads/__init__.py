"""Students whose model returns several named outputs, each of which learns a stored output of its own: heads.

options      what one head learns, and how
plan         from the heads of a run's students to a run of one output for each head
stores       which store, and which of its outputs, a head learns from
targets      which of the source's hard targets
data         the samples as each head sees them
compare      the same of a validation source
outputs      what a model returns, by the names of its heads
objective    the weighted sum of what the heads learn
objectives   what each student of a run learns, from what one of each head alone would
"""

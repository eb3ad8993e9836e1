"""Students whose model returns several named outputs, each of which learns a stored output of its own: heads.

options     what one head learns, and how
plan        from the heads of all students of a run to runs of one output each
data        the samples as each head sees them
compare     the same of a validation source
objective   the weighted sum of the heads' losses
outputs     a model's outputs by the names of its heads
"""

"""The campaign: whatever is killed, damaged, forged or refused by the system ends in a right result or in one line.

    programs.py   a program in a process of its own, and what is wrong with how it ended
    commands.py   the table of commands, each on small real stores
    kills.py      each killed at every change of a file in turn
    calls.py      system calls that fail under each
    trees.py      JSON documents that were changed
    damage.py     stores, published ones and runs whose files were changed, by chance or by somebody
    predictions.py, weights.py   files that are imported or loaded, changed so
    teachers.py   a teacher with several outputs
    forged.py     stores of a hostile publisher, where every hash is right
    counts.py     tries and faults, counted and printed

`make campaign MINUTES=10` runs it; `make test` has a short form of it.
"""

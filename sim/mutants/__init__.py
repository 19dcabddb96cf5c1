"""Planted bugs: does the simulator bite?

``make mutants`` (``python -m sim.mutants``) plants realistic bugs, one at a time, in a scratch copy
of the packages and runs the simulator on each until a checker reports a violation.  A mutant that
no seed catches is a missing checker or a missing fault.  The unchanged code runs first, on all
seeds: what it is blamed for is a false alarm, or a bug that nobody planted.

==============================  ===================================================================
:mod:`sim.mutants.mutant`       what a mutant is, and how it is put into a copy
``gossip tree chairman ...``    the catalogue, by subject
:mod:`sim.mutants.arena`        one process that runs seeds until something is violated
:mod:`sim.mutants.hunt`         scratch copies, processes, limits
:mod:`sim.mutants.report`       the table for people, JSON, and ``sim/MUTANTS.md``
==============================  ===================================================================

To add a mutant, add one entry to the catalogue of its subject; ``--only NAME`` tries it alone.
"""

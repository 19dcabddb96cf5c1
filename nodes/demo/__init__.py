"""``fabric demo``: real peers as processes, killed and repaired before your eyes.

:mod:`~nodes.demo.run` sees that nothing is left behind, :mod:`~nodes.demo.story` tells what
happens, :mod:`~nodes.demo.fleet` owns the child processes, :mod:`~nodes.demo.watch` looks at the
tree, :mod:`~nodes.demo.live` paints it.
"""

"""The Photon v1 REST front: stateless, any number of them over one store.

``server`` speaks HTTP (aiohttp) and turns each request into a :class:`~nodes.front.call.Call`;
``routes`` answer calls, one module a resource, and know nothing of HTTP's machinery; ``paging``
cuts lists.  What operations do is in :mod:`nodes.cloud`, what they look like in
:mod:`nodes.contract`.
"""

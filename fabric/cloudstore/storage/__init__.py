"""The edge of CloudStore: LMDB environments, their threads, and the asyncio node."""

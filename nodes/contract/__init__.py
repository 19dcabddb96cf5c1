"""The Photon v1 contract as data: entities, quota arithmetic, specs, errors, JSON. No I/O."""

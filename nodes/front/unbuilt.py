"""The paths of the contract that are not built yet. They answer 501 ``NotBuiltYet``."""

from __future__ import annotations

from typing import Final

from fabric.errors import NotBuiltYet
from nodes.front.call import Call, Reply, Route

_PATHS: Final = """
GET /auth
GET /info/topology
POST /tenants/{id}/set_security_groups
GET POST /projects/{id}/disks
GET POST /projects/{id}/clusters
POST /projects/{id}/set_security_groups
GET POST /images
GET DELETE /images/{id}
GET /images/{id}/tasks
GET POST /networks
GET DELETE /networks/{id}
POST /networks/{id}/set_portgroups
GET /portgroups
GET /portgroups/{id}
GET /datastores
GET /datastores/{id}
GET DELETE /disks/{id}
GET /disks/{id}/tasks
POST /vms/{id}/start
POST /vms/{id}/stop
POST /vms/{id}/restart
POST /vms/{id}/suspend
POST /vms/{id}/resume
POST /vms/{id}/operations
POST /vms/{id}/attach_disk
POST /vms/{id}/detach_disk
POST /vms/{id}/attach_iso
POST /vms/{id}/detach_iso
GET /vms/{id}/networks
GET /vms/{id}/mks_ticket
POST /vms/{id}/set_metadata
POST /vms/{id}/create_image
POST /vms/{id}/tags
GET /hosts
GET DELETE /hosts/{id}
GET /hosts/{id}/tasks
GET /hosts/{id}/vms
POST /hosts/{id}/suspend
POST /hosts/{id}/resume
POST /hosts/{id}/enter_maintenance
POST /hosts/{id}/exit_maintenance
POST /hosts/{id}/set_availability_zone
GET POST /deployments
GET DELETE /deployments/{id}
POST /deployments/{id}/deploy
POST /deployments/{id}/destroy
POST /deployments/{id}/pause_system
POST /deployments/{id}/pause_background_tasks
POST /deployments/{id}/resume_system
POST /deployments/{id}/initialize_migration
POST /deployments/{id}/finalize_migration
POST /deployments/{id}/set_security_groups
POST /deployments/{id}/set_image_datastores
POST /deployments/{id}/enable_cluster_type
POST /deployments/{id}/disable_cluster_type
GET POST /deployments/{id}/hosts
GET /deployments/{id}/vms
GET DELETE /clusters/{id}
POST /clusters/{id}/resize
GET /clusters/{id}/vms
GET POST /availabilityzones
GET DELETE /availabilityzones/{id}
GET /availabilityzones/{id}/tasks
"""


async def not_built_yet(call: Call) -> Reply:
    raise NotBuiltYet(f"{call.path} is part of the API but not built yet")


def routes() -> list[Route]:
    """Return one route for each method and path of the list above."""
    out = []
    for line in _PATHS.split("\n"):
        *methods, path = line.split() or [""]
        out += [Route(method, path, not_built_yet) for method in methods]
    return out

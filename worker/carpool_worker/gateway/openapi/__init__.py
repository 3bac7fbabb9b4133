"""What /openapi.json says: each route of the gateway, what it takes, and every answer that it gives."""

from carpool_worker.gateway.openapi.document import document, show

__all__ = ["document", "show"]

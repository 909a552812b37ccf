"""An error as a plain HTTP answer, in the shape of every path that is not under ``/v1``."""

from starlette.responses import Response

from gateway.errors import GatewayError
from gateway.faces.line import dumps


def error_response(error: GatewayError, request_id: str) -> Response:
    """``{"error": {code, message, retryable, request_id}}`` with the error's status and headers."""
    body = dumps({"error": error.body(request_id)})
    return Response(body, status_code=error.status, headers=error.headers(), media_type="application/json")

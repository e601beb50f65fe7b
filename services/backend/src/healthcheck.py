"""The image's HEALTHCHECK: exit 0 when /health of this container answers 200."""

import http.client
import sys


def is_healthy(port: int = 8000) -> bool:
    """Ask over loopback. http.client, unlike urllib, follows no proxy variable."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_healthy() else 1)

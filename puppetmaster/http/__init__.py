"""The HTTP door: resources, WebSocket, metrics, and the page."""

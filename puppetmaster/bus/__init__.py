"""MQTT, and the controller behind it."""

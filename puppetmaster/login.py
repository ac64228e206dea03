"""How we show the broker who we are: user, password, TLS. The same for both connections."""

import ssl
from typing import Any

from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings


def apply(settings: Settings, client: Any) -> None:
    """Have a paho client log in as the settings say. Raises SettingsError; nothing secret is in it."""
    if settings.broker_password and not settings.broker_user:
        raise SettingsError("PUPPETMASTER_BROKER_PASSWORD: expected PUPPETMASTER_BROKER_USER beside it.")
    if settings.broker_user:
        client.username_pw_set(settings.broker_user, settings.broker_password or None)
    if settings.broker_ca:
        client.tls_set_context(_context(settings))
    elif settings.broker_cert or settings.broker_key:
        raise SettingsError("PUPPETMASTER_BROKER_CERT: expected PUPPETMASTER_BROKER_CA beside it.")


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.broker_ca)
    except OSError as error:
        raise SettingsError(
            f"PUPPETMASTER_BROKER_CA: expected a file with certificates, and {settings.broker_ca} "
            f"cannot be read as one: {error}."
        ) from error
    if settings.broker_cert:
        try:
            context.load_cert_chain(settings.broker_cert, settings.broker_key or None)
        except OSError as error:
            raise SettingsError(
                "PUPPETMASTER_BROKER_CERT: expected a certificate and its key, and "
                f"{settings.broker_cert} cannot be read as one: {error}."
            ) from error
    return context

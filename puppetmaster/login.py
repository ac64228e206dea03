"""How we show the broker who we are: user, password, TLS. The same for both connections."""

import ssl
from dataclasses import dataclass, field
from typing import Any, Self

from puppetmaster.errors import SettingsError
from puppetmaster.settings import Settings


@dataclass(frozen=True, slots=True)
class Login:
    """What a connection needs to log in; empty and None: the broker asks for nothing."""

    user: str = ""
    password: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings say. Raises SettingsError; nothing secret is in it."""
        if settings.broker_password and not settings.broker_user:
            raise SettingsError("PUPPETMASTER_BROKER_PASSWORD: expected PUPPETMASTER_BROKER_USER beside it.")
        if not settings.broker_ca and (settings.broker_cert or settings.broker_key):
            raise SettingsError("PUPPETMASTER_BROKER_CERT: expected PUPPETMASTER_BROKER_CA beside it.")
        tls = _context(settings) if settings.broker_ca else None
        return cls(settings.broker_user, settings.broker_password, tls)

    def apply(self, client: Any) -> None:
        """Have a paho client, which the SDK's connection is, log in so."""
        if self.user:
            client.username_pw_set(self.user, self.password or None)
        if self.tls is not None:
            client.tls_set_context(self.tls)


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

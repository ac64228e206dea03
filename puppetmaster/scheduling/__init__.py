"""Which request goes next. Pure."""

"""The bus door: the Sanji SDK, hardened."""

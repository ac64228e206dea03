"""What a gateway has around the bundle, for trying and testing; never installed with it."""

"""The DERP relay and the STUN server."""

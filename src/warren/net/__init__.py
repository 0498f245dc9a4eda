"""Pure network protocols: DERP frames, STUN, DERP maps, coordination."""

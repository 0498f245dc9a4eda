"""The engine on asyncio: nodes, streams over the tunnel, coordination."""

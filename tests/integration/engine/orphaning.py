"""A process with two engines and full send buffers between them, which then does what it is told on its input.

Some of the connections were closed by the program already, with bytes in them that nobody has taken. Prints `ready`;
reads `close` (both engines are closed, and it says so) or ends with its input.
"""

import sys

from tests.integration.engine.harness import Node

CLIENT, AGENT = "fd7a:115c:a1e0::c", "fd7a:115c:a1e0::a"
PORT = 7
CONNECTIONS = 8


def main() -> None:
    client, agent = Node(CLIENT, stack="kernel"), Node(AGENT, stack="kernel")
    client.know(agent)
    agent.know(client)
    agent.engine.listen(PORT)
    kept = list[object]()
    for number in range(CONNECTIONS):
        near, far = client.dial(AGENT, PORT), agent.accept()
        kept.append(far)
        near.setblocking(False)
        try:
            while near.send(bytes(1 << 20)):
                pass
        except BlockingIOError:
            pass
        if number % 2:
            near.close()
        else:
            kept.append(near)
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "close\n":
            client.engine.close()
            agent.engine.close()
            print("closed", flush=True)


if __name__ == "__main__":
    main()

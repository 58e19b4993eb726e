"""A Ray cluster of a head and some nodes on this machine, as a process: it goes when its stdin does.

Started by `test_ray`. Says its dashboard's address and its nodes, each with the process that is its heart, in one line,
and then obeys `kill NODE-ID`.
"""

import contextlib
import json
import os
import signal
import socket
import sys

from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

STARTING_SECONDS = 600
SMALL = {"object_store_memory": 80_000_000}


def agents() -> dict[str, int]:
    """Ports of a node's agents, chosen here: a node waits fifteen seconds for those that they choose, and then dies."""
    names = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("", 0))) for _ in names]
        return {name: door.getsockname()[1] for name, door in zip(names, taken, strict=True)}


def main(nodes: int, folder: str) -> None:
    """Runs until stdin ends."""
    os.makedirs(f"{folder}/ray")  # where Ray notes its newest cluster; it does not make it
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": 0,
            "temp_dir": folder,
            **SMALL,
            **agents(),
        },
    )
    try:
        started = [cluster.add_node(wait=False, num_cpus=1, **SMALL, **agents()) for _ in range(nodes)]
        cluster.wait_for_nodes(STARTING_SECONDS)
        hearts = {node.node_id: node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid for node in started}
        print(json.dumps({"dashboard": cluster.webui_url, "nodes": hearts}), flush=True)
        for line in sys.stdin:
            _, name = line.split()
            (node,) = [each for each in started if each.node_id == name]
            cluster.remove_node(node, allow_graceful=False)
            started.remove(node)
            print(json.dumps({"killed": name}), flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main(int(sys.argv[1]), sys.argv[2])
